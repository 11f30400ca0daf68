"""Functions whose default keys would not tell what they return are refused."""

import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import ConfigurationError
from tests.conftest import MakeCache


class Repository:
    """A method to be bound."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    async def times(self, n: int) -> int:
        """Return a multiple."""
        return n * self.factor


async def plain(n: int) -> int:
    """Return the number."""
    return n


def scaled(factor: int) -> Callable[[int], Coroutine[Any, Any, int]]:
    """Return a wrapper that captures the factor as well."""

    @functools.wraps(plain)
    async def wrapper(n: int) -> int:
        return await plain(n) * factor

    return wrapper


def logged(function: Callable[[int], Coroutine[Any, Any, int]]) -> Any:
    """Return a wrapper that captures nothing but what it wraps."""

    @functools.wraps(function)
    async def wrapper(n: int) -> int:
        return await function(n)

    return wrapper


def test_a_bound_method_needs_a_template(alone: TierCache) -> None:
    """Two objects' methods have one name."""
    with pytest.raises(ConfigurationError, match="bound to one object"):
        alone.cached()(Repository(2).times)


async def test_a_bound_method_with_a_template_is_cached(alone: TierCache) -> None:
    """The user has named the key."""
    times = alone.cached("doubled:{n}")(Repository(2).times)

    assert await times(4) == 8


def test_a_wrapper_that_captures_a_value_needs_a_template(alone: TierCache) -> None:
    """What it wraps captures nothing, but it does."""
    with pytest.raises(ConfigurationError, match="captures factor"):
        alone.cached()(scaled(2))


async def test_a_wrapper_that_captures_only_what_it_wraps_is_cached(alone: TierCache) -> None:
    """Its name is that of the wrapped function, and so is what it returns."""
    assert await alone.cached()(logged(plain))(3) == 3


def test_a_partial_is_refused(alone: TierCache) -> None:
    """It has no name."""
    with pytest.raises(ConfigurationError, match="not a coroutine function"):
        alone.cached("part:{n}")(functools.partial(plain))


async def test_a_keyword_argument_may_be_called_self(alone: TierCache) -> None:
    """Helpers take whatever the function takes."""

    @alone.cached("any:{options}")
    async def anything(**options: int) -> int:
        return options["self"]

    assert await anything(self=1) == 1
    assert anything.peek(self=1) == 1


def chosen(cache: TierCache, kind: str, template: str | None = None) -> Any:
    """Return one of two functions that have one name."""
    if kind == "number":

        @cache.cached(template)
        async def load(n: int) -> object:
            return n
    else:

        @cache.cached(template)
        async def load(n: int) -> object:
            return str(n)

    return load


def test_a_second_local_function_of_one_name_needs_a_template(alone: TierCache) -> None:
    """Each would return what the other has loaded."""
    chosen(alone, "number")

    with pytest.raises(ConfigurationError, match=r"load needs a template: another function"):
        chosen(alone, "text")


async def test_a_local_function_may_be_made_again_and_have_a_template(
    alone: TierCache, make_cache: MakeCache
) -> None:
    """It is the same function then; one of another cache has that one's keys."""
    assert await chosen(alone, "number")(1) == await chosen(alone, "number")(1) == 1
    assert await chosen(alone, "text", "text:{n}")(1) == "1"
    assert await chosen(await make_cache(), "text")(1) == "1"
