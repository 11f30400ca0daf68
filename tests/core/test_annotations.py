"""Which annotations of functions and loaders count, and when their names must be defined."""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, Generic, Optional, Self, TypeVar

import pytest

from async_tiercache import LoadContext, TierCache
from async_tiercache.errors import ConfigurationError, EncodeError
from async_tiercache.testing import settled

if TYPE_CHECKING:
    from builtins import int as Absent
    from builtins import object as Session
    from builtins import str as Later

T = TypeVar("T")


@dataclass
class Profile:
    """A value that only its own codec understands."""

    id: int


async def test_the_type_of_a_parameter_need_not_exist_at_run_time(alone: TierCache) -> None:
    """The return annotation says how values are stored, and it can be resolved."""

    @alone.cached("profile:{n}", exclude=("session",))
    async def profile(n: int, session: Session | None = None) -> Profile:
        return Profile(n)

    class Profiles:
        @alone.cached("another:{n}", exclude=("session",))
        async def profile(self, n: int, session: Session | None = None) -> Profile:
            return Profile(n)

    async def load(session: Session | None = None) -> Profile:
        return Profile(3)

    assert await profile(1) == Profile(1)
    assert await Profiles().profile(2) == Profile(2)
    assert await alone.get_or_load("profile:3", load) == Profile(3)


async def test_a_generic_base_is_one_whatever_its_parameters_name(alone: TierCache) -> None:
    """Its type variable stands for the class that the runtime class gives it."""

    class Base(Generic[T]):
        kind = "profile"

        @alone.cached("{self.kind}:{n}", exclude=("session",))
        async def get(self, n: int, session: Session | None = None) -> T:
            return Profile(n)  # type: ignore[return-value]

    class Profiles(Base[Profile]):
        pass

    assert await Profiles().get(1) == Profile(1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is that of 3.12")
async def test_a_generic_base_may_name_its_parameters_in_its_head(alone: TierCache) -> None:
    """Though annotations are texts, and the module does not know the names."""
    space: dict[str, Any] = {"alone": alone, "Profile": Profile, "__name__": __name__}
    exec(
        "from __future__ import annotations\n"
        "class Base[T]:\n"
        "    kind = 'profile'\n"
        "    @alone.cached('{self.kind}:{n}')\n"
        "    async def get(self, n: int) -> list[T]:\n"
        "        return [Profile(n)]\n"
        "class Profiles(Base[Profile]): pass\n",
        space,
    )

    assert await space["Profiles"]().get(1) == [Profile(1)]


async def test_a_method_that_returns_self_is_told_to_name_its_class(alone: TierCache) -> None:
    """The decorator runs before there is a class that it could stand for."""
    with pytest.raises(ConfigurationError) as caught:

        class _Page:
            @alone.cached("page:{n}")
            async def next(self, n: int) -> Self:
                return self

    assert "name the class" in caught.value.hint


async def test_a_batch_heeds_the_annotations_that_can_be_resolved(alone: TierCache) -> None:
    """Those of its ids and of its result, though another one cannot."""
    given: list[Any] = []

    @alone.cached("name:{n}", exclude=("session",))
    async def name(n: int, session: object = None) -> str | None:
        return None

    @name.batch
    async def names(ns: frozenset[int], session: Session | None = None) -> dict[int, str]:
        given.append(ns)
        return {}

    assert await name(1) is None

    assert await names(frozenset({1, 2})) == {}
    assert given == [frozenset({2})]


async def test_what_a_batch_returns_may_be_defined_after_it(
    alone: TierCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A None that calls for one have kept is nothing where values are promised."""

    @alone.cached("later:{n}")
    async def one(n: int) -> Later | None:
        return None

    @one.batch
    async def many(ns: list[int]) -> dict[int, Later]:
        return {}

    monkeypatch.setitem(globals(), "Later", str)

    assert await one(1) is None
    assert await many([1]) == {}


class _Loader:
    """Loads when it is called."""

    async def __call__(self) -> Profile:
        return Profile(1)


async def _profile(n: int) -> Profile:
    return Profile(n)


def _awaitable() -> Awaitable[Profile]:
    return _profile(1)


async def _list() -> list["Profile"]:  # noqa: UP037 - a name inside a type
    return [Profile(1)]


async def _optional() -> Optional["Profile"]:  # noqa: UP037, UP045 - likewise
    return Profile(1)


# As without `from __future__ import annotations`.
_list.__annotations__["return"] = list["Profile"]
_optional.__annotations__["return"] = Optional["Profile"]


@pytest.mark.parametrize(
    ("loader", "value"),
    [
        pytest.param(functools.partial(_profile, 1), Profile(1), id="partial"),
        pytest.param(functools.partial(functools.partial(_profile), 1), Profile(1), id="partials"),
        pytest.param(_Loader(), Profile(1), id="object"),
        pytest.param(_Loader().__call__, Profile(1), id="method"),
        pytest.param(_awaitable, Profile(1), id="awaitable"),
        pytest.param(_list, [Profile(1)], id="name in a list"),
        pytest.param(_optional, Profile(1), id="name in an Optional"),
    ],
)
async def test_every_kind_of_loader_says_what_it_returns(
    cache: TierCache, other: TierCache, loader: Any, value: Any
) -> None:
    """Whatever it is that is called, and wherever names stand in its annotation."""
    assert await cache.get_or_load("profile", loader) == value
    await settled(cache)

    assert await other.get_or_load("profile", loader) == value


async def test_a_loader_of_many_may_name_its_values(alone: TierCache) -> None:
    """The name stands inside the mapping."""

    async def load(keys: list[str]) -> Any:
        return {key: Profile(1) for key in keys}

    load.__annotations__["return"] = dict[str, "Profile"]

    assert await alone.get_or_load_many(["a"], load) == {"a": Profile(1)}


async def test_what_annotated_adds_needs_no_hash(alone: TierCache) -> None:
    """It says nothing of how the value is stored."""

    async def load() -> Annotated[list[Annotated[int, ["positive"]]], {"unit": "cents"}]:
        return [1]

    assert await alone.get_or_load("price", load) == [1]


@pytest.mark.parametrize(
    ("options", "blamed"),
    [
        pytest.param({"schema_version": [1]}, r"schema_version=\[1\]", id="field"),
        pytest.param({"policy": {"ttl": 1}}, r"policy=\{'ttl': 1\} is no Policy", id="policy"),
    ],
)
async def test_an_option_without_a_hash_is_blamed_itself(
    alone: TierCache, options: dict[str, Any], blamed: str
) -> None:
    """And not the annotation, nor all of them."""

    async def load() -> int:
        return 1

    with pytest.raises(ConfigurationError, match=blamed):
        await alone.get_or_load("price", load, **options)


async def test_a_lambda_is_told_that_it_cannot_be_annotated(alone: TierCache) -> None:
    """The hint can be followed."""
    with pytest.raises(EncodeError) as caught:
        await alone.get_or_load("profile", lambda: _profile(1))

    assert "Annotate Profile" in caught.value.hint
    assert "lambda" in caught.value.hint


async def test_a_return_annotation_that_is_never_resolved_is_named(alone: TierCache) -> None:
    """The hint says what to do about it."""

    @alone.cached("absent:{n}")
    async def absent(n: int) -> Absent:
        return n

    async def load() -> Absent:
        return 1

    with pytest.raises(ConfigurationError, match=r"return annotation of .*absent .*'Absent'"):
        await absent(1)
    with pytest.raises(ConfigurationError, match="return annotation 'Absent'"):
        await alone.get_or_load("absent", load)


async def test_annotations_may_be_forward_references(alone: TierCache) -> None:
    """Python 3.14 gives them for what is not defined, or not yet."""

    async def load(n: Any, context: Any = LoadContext()) -> Any:
        context.ttl = 1
        return Profile(n)

    load.__annotations__ = {
        "n": ForwardRef("Session"),
        "context": ForwardRef("absent.LoadContext"),
        "return": ForwardRef("Profile"),
    }
    profile: Any = alone.cached("profile:{n}")(load)

    assert await profile(1) == Profile(1)
    assert await alone.get("profile:1") == Profile(1)
