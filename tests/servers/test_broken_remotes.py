"""Each test of `RedisContract` is failed by a remote that breaks its promise."""

from collections.abc import Sequence
from typing import Any, ClassVar

import pytest

from async_tiercache.abc import Invalidation, Reading
from async_tiercache.backends.redis import RedisRemote, scripts
from async_tiercache.testing import MemoryServer
from async_tiercache.testing.contracts import RemoteContract
from tests.servers.contract import ENTRY, MARK, WAITERS, HourAhead, RedisContract
from tests.testing.runs import fails, names_of


class Broken(RedisRemote):
    """Breaks a promise, by commands of its own.

    Attributes:
        found_by: The tests that must fail, without their ``test_``.
    """

    found_by: ClassVar[tuple[str, ...]] = ()

    def __init__(self, server: MemoryServer) -> None:
        super().__init__(None, namespace="test", clock=HourAhead(), client=server.client())
        self.raw: Any = server.client()


class FailsOnOtherTypes(Broken):
    found_by = ("get_many_takes_another_type_for_nothing",)

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        return Reading([await self.raw.get(f"test:{{{key}}}") for key in keys], [])


class TakesEmptyForNothing(Broken):
    found_by = ("an_empty_string_is_something",)

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        contents, states = await super().get_many(keys, tags)
        return Reading([held or None for held in contents], states)


class TakesStringsOnly(Broken):
    found_by = ("take_replaces_another_type",)

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        held: bytes | None = await self.raw.get(f"test:{{{key}}}")
        return held or await super().take(key, token, seconds, instead_of=instead_of)


class SeizesForEver(Broken):
    found_by = ("seize_replaces_another_type", "everything_stored_ends_by_itself")

    async def seize(self, key: str, token: bytes, seconds: float, /) -> bool:
        await self.raw.set(f"test:{{{key}}}", token)
        return True


class MarksElsewhere(Broken):
    found_by = ("mark_stands_beside_the_entry",)

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        return await super().take(f"{key}:r", token, seconds) is None


class ReleasesAnyType(Broken):
    found_by = ("renew_and_release_leave_another_type",)

    async def release(self, key: str, token: bytes, /) -> None:
        await self.raw.delete(ENTRY, MARK)


class Commits(Broken):
    """Commits by a script that is not quite right."""

    script = scripts.COMMIT

    async def commit(
        self,
        key: str,
        frame: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
        tell: Invalidation | None = None,
    ) -> bool:
        arguments = (fence, frame, round(seconds * 1000), mark or b"")
        return bool(await self.raw.eval(self.script, 3, ENTRY, WAITERS, MARK, *arguments))


class KeepsTheTimeOfTheLease(Commits):
    found_by = ("commit_gives_the_frame_its_time",)
    script = scripts.COMMIT.replace("'PX', ARGV[3]", "'KEEPTTL'")


class StumblesOverTheMark(Commits):
    found_by = ("commit_is_refused_by_another_type_at_the_mark",)
    script = scripts.COMMIT.replace("is_string(KEYS[3]) and", "")


class ComparesTheBeginning(Commits):
    found_by = ("commit_is_refused_by_what_only_resembles_our_lease",)
    script = scripts.COMMIT.replace(
        "held(KEYS[1], ARGV[1]) ~= ARGV[1]",
        "string.sub(redis.call('GET', KEYS[1]), 1, 16) ~= string.sub(ARGV[1], 1, 16)",
    )


class FindsTheIdAnywhere(Commits):
    found_by = ("commit_is_refused_by_what_only_resembles_our_entry",)
    script = scripts.COMMIT.replace(
        "held(KEYS[1], ARGV[1]) ~= ARGV[1]",
        "not string.find(redis.call('GET', KEYS[1]), ARGV[1], 1, true)",
    )


class TakesAnyLengthForAState(Broken):
    found_by = ("another_type_is_no_state",)

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        reading = await super().get_many(keys, tags)
        return Reading(reading.contents, [await self.raw.get(f"test:{{{tag}}}:t") for tag in tags])


class TakesStatesForBlocks(Broken):
    found_by = ("a_state_may_begin_as_a_block_does",)

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        states = await super().ensure(tags, seconds)
        return [None if (state or b"B").startswith(b"B") else state for state in states]


class BlocksStringsOnly(Broken):
    found_by = ("a_block_replaces_another_type",)

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        if await self.raw.type(ENTRY) == b"string":
            await super().block(record, token, seconds, renewing=renewing)


class LeavesWhatIsNoEntry(Broken):
    found_by = ("invalidate_leaves_no_key_behind",)

    async def invalidate(self, record: Invalidation, /) -> None:
        for key in record.keys:
            if await self.raw.type(f"test:{{{key}}}") == b"string":
                await super().invalidate(Invalidation(record.id, (key,)))


class BelievesInItsScripts(Broken):
    found_by = ("scripts_survive_a_script_flush",)

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        digest = await self.raw.script_load(scripts.RENEW)
        await self.raw.script_flush()
        return bool(await self.raw.evalsha(digest, 2, ENTRY, MARK, token, round(seconds * 1000)))


class TellsItsOwnTime(Broken):
    found_by = ("now_follows_the_clock_of_the_server",)

    def now(self) -> float:
        return HourAhead.wall()


class LeavesItsProof(Broken):
    found_by = ("a_probe_touches_no_key",)

    async def probe(self) -> None:
        await self.raw.set("test:{~}", b"")


BROKEN = [
    each for each in (*Broken.__subclasses__(), *Commits.__subclasses__()) if each is not Commits
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
async def test_a_broken_promise_is_found(broken: type[Broken]) -> None:
    """By each of the tests that are named for it."""

    def fixtures() -> dict[str, Any]:
        remote = broken(MemoryServer())
        return {"remote": remote, "ask": remote.raw.execute_command}

    passed = [name for name in broken.found_by if not await fails(RedisContract(), name, fixtures)]

    assert broken.found_by
    assert passed == []


async def test_the_script_of_the_tests_passes() -> None:
    """So what fails with a changed one fails because of the change."""

    def fixtures() -> dict[str, Any]:
        remote = Commits(MemoryServer())
        return {"remote": remote, "ask": remote.raw.execute_command}

    names = {name for broken in Commits.__subclasses__() for name in broken.found_by}

    assert [name for name in names if await fails(RedisContract(), name, fixtures)] == []


def test_every_test_of_the_contract_can_fail() -> None:
    """Each that it adds is named by a remote that fails it."""
    named = {name for broken in BROKEN for name in broken.found_by}

    assert named == {*names_of(RedisContract)} - {*names_of(RemoteContract)}
