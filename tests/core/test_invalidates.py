"""The decorator that invalidates: after success, by keys made before the call."""

import asyncio
from typing import Any

import pytest

from async_tiercache import Invalidated, TierCache
from async_tiercache.errors import CacheClosedError, ConfigurationError, UnkeyableError
from async_tiercache.testing import Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import Source, function_of, soon, ticks


class Rows:
    """A source that is changed through a decorated method."""

    def __init__(self, cache: TierCache) -> None:
        self.source = Source("old")
        self.read = function_of(cache, self.source)

        @cache.invalidates(keys=["value:{key}"])
        async def rename(key: Any, value: str, *, fail: bool = False) -> str:
            if fail:
                raise LookupError
            self.source.value = value
            return f"renamed {key}"

        self.rename = rename


async def test_the_decorator_invalidates_after_success(cache: TierCache) -> None:
    """The result of the function is passed through."""
    rows = Rows(cache)
    await rows.read(1)
    await settled(cache)

    assert await rows.rename(1, "new") == "renamed 1"
    assert await rows.read(1) == "new"


@pytest.mark.parametrize(
    "keys",
    ["value:{key}", None, 7, iter(["value:{key}"]), ()],
    ids=lambda keys: type(keys).__name__,
)
def test_keys_that_are_no_list_of_templates_are_refused(alone: TierCache, keys: Any) -> None:
    """One that can be read but once would be empty where the decorator is used again."""
    with pytest.raises(ConfigurationError, match="needs the keys or tags"):
        alone.invalidates(keys=keys)


async def test_the_decorator_invalidates_nothing_after_a_failure(
    cache: TierCache, events: Recorder
) -> None:
    """The source has not changed."""
    rows = Rows(cache)

    with pytest.raises(LookupError):
        await rows.rename(1, "new", fail=True)

    assert events.of(Invalidated) == []


async def test_an_argument_without_a_key_fails_before_the_source_changes(
    cache: TierCache,
) -> None:
    """Afterwards it would be too late: the old value would stay."""
    rows = Rows(cache)

    with pytest.raises(UnkeyableError):
        await rows.rename(object(), "new")

    assert rows.source.value == "old"


async def test_a_closed_cache_fails_before_the_source_changes(make_cache: MakeCache) -> None:
    """The caller is told nothing happened, so nothing must have happened."""
    cache = await make_cache()
    rows = Rows(cache)
    await cache.aclose()

    with pytest.raises(CacheClosedError):
        await rows.rename(1, "new")

    assert rows.source.value == "old"


@pytest.mark.parametrize("end", ["decorated", "after_commit"])
async def test_what_ends_after_the_close_is_done_and_the_log_says_what_is_not_told(
    make_cache: MakeCache, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """An error would say that nothing has happened, and the source has changed."""
    cache = await make_cache()
    rows = Rows(cache)
    closed = asyncio.Event()

    @cache.invalidates(keys=["value:{key}"])
    async def decorated(key: int) -> str:
        await closed.wait()
        return await rows.rename.__wrapped__(key, "new")  # type: ignore[attr-defined,no-any-return]

    async def after_commit(key: int) -> str:
        async with cache.after_commit():
            renamed = await rows.rename(key, "new")
            await closed.wait()
        return renamed

    renaming = asyncio.ensure_future({"decorated": decorated, "after_commit": after_commit}[end](1))
    await ticks()
    await cache.aclose()
    assert "Closed with" not in caplog.text
    closed.set()

    assert await soon(renaming) == "renamed 1"
    assert rows.source.value == "new"
    assert "Ended after the close: L2 is not told to remove 1 keys any more" in caplog.text


async def test_the_keys_are_those_of_the_call_whatever_the_function_does(
    cache: TierCache, events: Recorder
) -> None:
    """A function that changes its own arguments invalidates what it was asked for."""

    @cache.invalidates(keys=["rows:{ids}"])
    async def remove(ids: list[int]) -> None:
        ids.clear()

    await remove([1, 2])

    assert [event.keys for event in events.of(Invalidated)] == [("rows:[1:2]",)]


async def test_the_decorator_works_on_methods(cache: TierCache, events: Recorder) -> None:
    """Positional, keyword and default arguments make the same keys."""

    class Users:
        @cache.invalidates(keys=["user:{user_id}", "users:{group}"])
        async def rename(self, user_id: int, group: str = "all") -> None:
            return

    await Users().rename(1)
    await Users().rename(group="all", user_id=1)

    assert [event.keys for event in events.of(Invalidated)] == [("user:1", "users:all")] * 2


@pytest.mark.parametrize("keys", [(), "user:{user_id}"], ids=["none", "one text"])
async def test_a_decorator_without_a_list_of_keys_is_refused(cache: TierCache, keys: Any) -> None:
    """It would invalidate nothing, or single characters."""
    with pytest.raises(ConfigurationError, match="needs the keys"):
        cache.invalidates(keys=keys)


async def test_a_template_that_does_not_fit_the_function_is_refused(cache: TierCache) -> None:
    """At decoration, not at the first call."""
    with pytest.raises(ConfigurationError, match="user_id"):

        @cache.invalidates(keys=["user:{user_id}"])
        async def rename(user: int) -> None:
            return
