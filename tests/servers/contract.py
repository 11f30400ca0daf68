"""What `RedisRemote` promises beside the contract of `abc.Remote`: how it stands in Redis."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from async_tiercache._clock import SystemClock
from async_tiercache.abc import Invalidation, Remote
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET
from async_tiercache.testing import contracts
from async_tiercache.testing.contracts._remote import (
    FRAME,
    ID,
    LEASE,
    NEW_FRAME,
    OTHER_LEASE,
)

Ask: TypeAlias = Callable[..., Awaitable[Any]]

ENTRY, MARK = "test:{k}", "test:{k}:r"


class RedisContract(contracts.RemoteContract):
    """Subclasses have the fixtures `remote`, of namespace ``test``, and `ask`, of its server."""

    async def test_get_many_takes_another_type_for_nothing(self, remote: Remote, ask: Ask) -> None:
        """A list at our key is nothing, asked alone and among others."""
        await ask("RPUSH", ENTRY, "x")
        await ask("SET", "test:{a}", b"A")

        assert await remote.get_many(["k"]) == [None]
        assert await remote.get_many(["k", "a"]) == [None, b"A"]

    async def test_an_empty_string_is_something(self, remote: Remote, ask: Ask) -> None:
        """It is returned as what the key holds, and stays."""
        await ask("SET", ENTRY, b"", "PX", 10_000)

        assert await remote.take("k", LEASE, 20) == b""

        assert await remote.get_many(["k"]) == [b""]
        assert await ask("PTTL", ENTRY) <= 10_000

    @pytest.mark.parametrize("instead_of", [None, FRAME], ids=["missing", "dead"])
    async def test_take_replaces_another_type(
        self, remote: Remote, ask: Ask, instead_of: bytes | None
    ) -> None:
        """A list at our key is nobody's entry."""
        await ask("RPUSH", ENTRY, "x")

        assert await remote.take("k", LEASE, 20, instead_of=instead_of) is None

        assert await ask("GET", ENTRY) == LEASE
        assert 0 < await ask("PTTL", ENTRY) <= 20_000

    async def test_seize_replaces_another_type(self, remote: Remote, ask: Ask) -> None:
        """After it only the new lease stands there, for its time."""
        await ask("RPUSH", ENTRY, "x")

        await remote.seize("k", LEASE, 20)

        assert await ask("GET", ENTRY) == LEASE
        assert 0 < await ask("PTTL", ENTRY) <= 20_000

    async def test_mark_stands_beside_the_entry(self, remote: Remote, ask: Ask) -> None:
        """In the same slot of a Cluster, for its time."""
        await ask("SET", ENTRY, FRAME, "PX", 10_000)

        assert await remote.mark("k", LEASE, 20)
        assert await ask("GET", MARK) == LEASE
        assert 0 < await ask("PTTL", MARK) <= 20_000
        assert await remote.renew("k", LEASE, 100)

        assert 20_000 < await ask("PTTL", MARK) <= 100_000
        assert await ask("PTTL", ENTRY) <= 10_000

    async def test_renew_and_release_leave_another_type(self, remote: Remote, ask: Ask) -> None:
        """A list is not ours, and no error."""
        for name in (ENTRY, MARK):
            await ask("RPUSH", name, LEASE)
            await ask("PEXPIRE", name, 10_000)

        assert not await remote.renew("k", LEASE, 100)
        await remote.release("k", LEASE)

        assert 0 < await ask("PTTL", ENTRY) <= 10_000
        assert 0 < await ask("PTTL", MARK) <= 10_000

    async def test_commit_gives_the_frame_its_time(self, remote: Remote, ask: Ask) -> None:
        """In place of the lease's."""
        await remote.take("k", LEASE, 20)

        assert await remote.commit("k", FRAME, 100, fence=LEASE)

        assert 20_000 < await ask("PTTL", ENTRY) <= 100_000

    async def test_commit_is_not_disturbed_by_another_type_at_the_mark(
        self, remote: Remote, ask: Ask
    ) -> None:
        """What was stored is reported as stored."""
        await ask("SET", ENTRY, FRAME)
        await ask("RPUSH", MARK, "x")

        assert await remote.commit("k", NEW_FRAME, 100, fence=ID, mark=LEASE)

        assert await ask("GET", ENTRY) == NEW_FRAME

    @pytest.mark.parametrize(
        "held",
        [
            ("SET", LEASE + b"x"),
            ("SET", LEASE[:-1]),
            ("SET", b""),
            ("RPUSH", LEASE),
        ],
        ids=["longer", "shorter", "empty", "list"],
    )
    async def test_commit_is_refused_by_what_only_resembles_our_lease(
        self, remote: Remote, ask: Ask, held: tuple[str, bytes]
    ) -> None:
        """Whatever came between stays as it is."""
        await ask(held[0], ENTRY, held[1])
        before = await ask("DUMP", ENTRY)

        assert not await remote.commit("k", NEW_FRAME, 100, fence=LEASE)

        assert await ask("DUMP", ENTRY) == before

    @pytest.mark.parametrize(
        "held",
        [
            ("SET", b"x" + FRAME),
            ("SET", FRAME[: ENTRY_ID_OFFSET + 15]),
            ("SET", b""),
            ("RPUSH", FRAME),
        ],
        ids=["shifted", "short", "empty", "list"],
    )
    async def test_commit_is_refused_by_what_only_resembles_our_entry(
        self, remote: Remote, ask: Ask, held: tuple[str, bytes]
    ) -> None:
        """Whatever came between stays as it is."""
        await ask(held[0], ENTRY, held[1])
        before = await ask("DUMP", ENTRY)

        assert not await remote.commit("k", NEW_FRAME, 100, fence=ID, mark=LEASE)

        assert await ask("DUMP", ENTRY) == before

    async def test_invalidate_leaves_no_key_behind(self, remote: Remote, ask: Ask) -> None:
        """Of any type, marks included; names that begin alike stay."""
        await ask("SET", ENTRY, FRAME)
        await ask("SET", MARK, LEASE)
        await ask("SET", "test:{leased}", LEASE)
        await ask("RPUSH", "test:{list}", "x")
        await ask("SET", "test:{kk}", FRAME)

        await remote.invalidate(Invalidation(b"i" * 16, ("k", "leased", "list", "none")))

        assert await ask("KEYS", "*") == [b"test:{kk}"]

    async def test_everything_stored_ends_by_itself(self, remote: Remote, ask: Ask) -> None:
        """No key is without a time, the shortest one included."""
        await remote.take("taken", LEASE, 20)
        await remote.seize("seized", LEASE, 20)
        await remote.take("k", LEASE, 20)
        await remote.commit("k", FRAME, 1e7, fence=LEASE)
        await remote.mark("k", LEASE, 20)
        await ask("SET", "test:{dead}", b"dead")
        await remote.take("dead", LEASE, 20, instead_of=b"dead")
        await remote.take("brief", LEASE, 1e-6)

        names = await ask("KEYS", "*")
        lives = [await ask("PTTL", name) for name in names]
        assert len(names) >= 5
        assert -1 not in lives

    async def test_scripts_survive_a_script_flush(self, remote: Remote, ask: Ask) -> None:
        """A server that has forgotten a script is told it again."""
        await remote.take("k", LEASE, 20)

        await ask("SCRIPT", "FLUSH")
        assert await remote.renew("k", LEASE, 100)
        await ask("SCRIPT", "FLUSH")
        assert await remote.commit("k", FRAME, 100, fence=LEASE)
        await ask("SCRIPT", "FLUSH")
        assert await remote.take("k", OTHER_LEASE, 20, instead_of=FRAME) is None
        await ask("SCRIPT", "FLUSH")
        await remote.release("k", OTHER_LEASE)

        assert await ask("EXISTS", ENTRY) == 0

    async def test_now_follows_the_clock_of_the_server(self, remote: Remote, ask: Ask) -> None:
        """The clock of the fixture is an hour ahead; the remote's is not."""
        seconds, _ = await ask("TIME")

        assert abs(remote.now() - int(seconds)) < 60

    async def test_a_probe_touches_no_key(self, remote: Remote, ask: Ask) -> None:
        """It writes, to prove that it can, and leaves nothing behind that does not end."""
        await ask("SET", ENTRY, FRAME)
        await ask("SET", "test:{}", FRAME)

        await remote.probe()

        assert await remote.get_many(["k", ""]) == [FRAME, FRAME]
        lives = [await ask("PTTL", name) for name in await ask("KEYS", "*")]
        assert lives.count(-1) == 2


class HourAhead(SystemClock):
    """The clock of a machine whose wall clock is an hour ahead."""

    @staticmethod
    def wall() -> float:
        """Return seconds since the epoch, as this machine believes."""
        return SystemClock.wall() + 3600
