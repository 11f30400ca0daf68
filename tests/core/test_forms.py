"""Forms: what a decorated coroutine looks like, and how it behaves where Python handles it."""

import asyncio
import copy
import functools
import inspect
import pickle
import sys
import weakref
from typing import Any, cast

import pytest

from async_tiercache import TierCache
from async_tiercache._decorators import KEEP_AFTER
from tests.core.source import Source, function_of

SHARED = TierCache(namespace="test")
"""What is pickled must stand at the top of a module."""


class Names:
    """A repository."""

    @SHARED.cached()
    async def name(self, n: int) -> str:
        return f"name {n}"

    @name.batch
    async def names(self, numbers: list[int]) -> dict[int, str]:
        return {n: f"name {n}" for n in numbers}


@SHARED.cached()
async def price(n: int) -> int:
    return n


@price.batch
async def prices(numbers: list[int]) -> dict[int, int]:
    return {n: n for n in numbers}


def names_looked_up(times: int) -> Names:
    """Return an object whose method was looked up so often: its bound form may be kept."""
    names = Names()
    for _ in range(times):
        _ = names.name
    return names


def pickled(form: Any) -> Any:
    """Return what is read of what was written."""
    return pickle.loads(pickle.dumps(form))


def look(cache: TierCache) -> tuple[Any, Any]:
    class Repository:
        @cache.cached("user:{user_id}:{full}")
        async def profile(self, user_id: int, full: bool = False) -> str:
            """Return the profile."""
            return str(user_id)

    return Repository, Repository()


def looks(form: Any) -> dict[str, Any]:
    return {
        "coroutine function": inspect.iscoroutinefunction(form),
        "name": form.__name__,
        "module": form.__module__,
        "doc": form.__doc__,
        "signature": str(inspect.signature(form)),
        "unwrapped": inspect.unwrap(form).__name__,
    }


async def test_a_cached_function_looks_like_the_original(alone: TierCache) -> None:
    """For frameworks that look at what they call."""

    @alone.cached("user:{user_id}:{full}")
    async def profile(user_id: int, *, full: bool = False) -> str:
        """Return the profile."""
        return str(user_id)

    assert looks(profile) == {
        "coroutine function": True,
        "name": "profile",
        "module": __name__,
        "doc": "Return the profile.",
        "signature": "(user_id: int, *, full: bool = False) -> str",
        "unwrapped": "profile",
    }
    assert hasattr(profile, "__wrapped__")


@pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 cannot mark an object as a coroutine")
async def test_a_cached_method_of_a_class_looks_like_the_original(alone: TierCache) -> None:
    """Seen from its class."""
    kind, _ = look(alone)

    assert looks(kind.profile) == {
        "coroutine function": True,
        "name": "profile",
        "module": __name__,
        "doc": "Return the profile.",
        "signature": "(self, user_id: int, full: bool = False) -> str",
        "unwrapped": "profile",
    }


@pytest.mark.parametrize("look_ups", [0, KEEP_AFTER * 2], ids=["first", "kept"])
async def test_a_cached_method_of_an_object_looks_like_the_original(
    alone: TierCache, look_ups: int
) -> None:
    """Before its bound form is kept, and after."""
    _, users = look(alone)
    for _ in range(look_ups):
        _ = users.profile

    assert looks(users.profile) == {
        "coroutine function": True,
        "name": "profile",
        "module": __name__,
        "doc": "Return the profile.",
        "signature": "(user_id: int, full: bool = False) -> str",
        "unwrapped": "profile",
    }


async def test_a_call_returns_a_coroutine(alone: TierCache) -> None:
    """`create_task` takes it; nothing runs before it is awaited."""
    source = Source()
    call = function_of(alone, source)(1)

    assert inspect.iscoroutine(call)
    assert source.loads == 0
    assert await asyncio.create_task(call) == "v1"


AGAIN = [copy.copy, copy.deepcopy, pickled]
LOOK_UPS = pytest.mark.parametrize("look_ups", [0, KEEP_AFTER * 2], ids=["first", "kept"])


@LOOK_UPS
@pytest.mark.parametrize("again", AGAIN)
async def test_a_bound_form_is_copied_and_pickled_with_its_object(
    again: Any, look_ups: int
) -> None:
    """As a bound method is."""
    names = names_looked_up(look_ups)
    form = again(names.name)

    assert await form(3) == "name 3"
    assert form.peek(3) == "name 3"
    assert (form.__self__ is names) == (again is copy.copy)


@pytest.mark.parametrize("again", AGAIN)
async def test_the_form_of_a_batch_is_copied_and_pickled(again: Any) -> None:
    """With its object, or by its name."""
    form = again(Names().names)

    assert await form([1]) == {1: "name 1"}
    assert again(Names.names) is Names.names
    assert again(prices) is prices


@pytest.mark.parametrize("again", AGAIN)
def test_a_form_without_an_object_is_pickled_by_its_name(again: Any) -> None:
    """As a function is; and a copy is itself."""
    assert again(Names.name) is Names.name
    assert again(price) is price


@LOOK_UPS
async def test_a_bound_form_is_taken_apart_like_a_bound_method(look_ups: int) -> None:
    """`weakref.WeakMethod` does so, and `functools.partial`."""
    names = names_looked_up(look_ups)
    form: Any = names.name
    partial: Any = functools.partial(form, n=4)
    found: Any = weakref.WeakMethod(form)()

    assert form.__self__ is names
    assert await form.__func__(names, 4) == "name 4"
    assert await found(4) == "name 4"
    assert await partial() == "name 4"
    assert inspect.iscoroutinefunction(partial)


@LOOK_UPS
def test_a_form_is_shown_as_the_function_or_the_bound_method(look_ups: int) -> None:
    """In a debugger it is what it stands for."""
    names = names_looked_up(look_ups)

    assert repr(names.name) == f"<bound method Names.name of {names!r}>"
    assert repr(Names.name).startswith("<function Names.name at ")
    assert repr(price).startswith("<function price at ")


async def test_a_batch_can_be_called_through_its_class() -> None:
    """With its object by position or by name; without one it is a wrong call like any other."""
    names, through_class = Names(), cast("Any", Names.names)

    assert await through_class(names, [1]) == {1: "name 1"}
    assert await through_class(self=names, numbers=[1]) == {1: "name 1"}
    for call in (through_class, through_class.invalidate):
        with pytest.raises(TypeError, match="missing a required argument: 'self'"):
            await call(numbers=[1])
