"""What `RedisRemote` promises beside the contract of `abc.Remote`: how it stands in Redis."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from async_tiercache._clock import SystemClock
from async_tiercache.abc import Invalidation, Remote
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET
from async_tiercache.tags import state_of
from async_tiercache.testing import contracts
from async_tiercache.testing.contracts._coherence import RECORD, TOKEN
from async_tiercache.testing.contracts._samples import (
    FRAME,
    ID,
    LEASE,
    NEW_FRAME,
    OTHER_LEASE,
    contents,
)

Ask: TypeAlias = Callable[..., Awaitable[Any]]

ENTRY, MARK, WAITERS = "test:{k}", "test:{k}:r", "test:{k}:w"


class RedisContract(contracts.RemoteContract):
    """Subclasses have the fixtures `remote`, of namespace ``test``, and `ask`, of its server."""

    async def test_get_many_takes_another_type_for_nothing(self, remote: Remote, ask: Ask) -> None:
        """A list at our key is nothing, asked alone and among others."""
        await ask("RPUSH", ENTRY, "x")
        await ask("SET", "test:{a}", b"A")

        assert await contents(remote, ["k"]) == [None]
        assert await contents(remote, ["k", "a"]) == [None, b"A"]

    async def test_an_empty_string_is_something(self, remote: Remote, ask: Ask) -> None:
        """It is returned as what the key holds, and stays."""
        await ask("SET", ENTRY, b"", "PX", 10_000)

        assert await remote.take("k", LEASE, 20) == b""

        assert await contents(remote, ["k"]) == [b""]
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

    async def test_commit_is_refused_by_another_type_at_the_mark(
        self, remote: Remote, ask: Ask
    ) -> None:
        """It is no error, and our mark it is not."""
        await ask("SET", ENTRY, FRAME)
        await ask("RPUSH", MARK, "x")

        assert not await remote.commit("k", NEW_FRAME, 100, fence=ID, mark=LEASE)

        assert await ask("GET", ENTRY) == FRAME

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
        await ask("SET", MARK, LEASE)
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

        assert set(await ask("KEYS", "*")) - {b"test:{*}:last"} == {b"test:{kk}"}

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
        await remote.ensure(["t", "blocked"], 20)
        await remote.invalidate(Invalidation(b"i" * 16, ("none",), ("t",)))
        await remote.block(Invalidation(b"i" * 16, ("l",), ("blocked",)), TOKEN, 20)

        names = set(await ask("KEYS", "*")) - {b"test:{*}:last"}
        lives = [await ask("PTTL", name) for name in names]
        assert len(names) >= 7
        assert -1 not in lives

    async def test_another_type_is_no_state(self, remote: Remote, ask: Ask) -> None:
        """Nor is a string of another length, and whoever needs a state puts it there."""
        await ask("RPUSH", "test:{t}:t", "x")
        await ask("SET", "test:{s}:t", "x")

        assert (await remote.get_many([], ["t", "s"])).states == [None, None]
        states = await remote.ensure(["t", "s"], 20)

        assert all(state_of(state) for state in states)
        assert (await remote.get_many([], ["t", "s"])).states == states

    async def test_a_state_may_begin_as_a_block_does(self, remote: Remote, ask: Ask) -> None:
        """One of 256 does."""
        state = b"B" * 44
        await ask("SET", "test:{t}:t", state)

        assert await remote.ensure(["t"], 20) == [state]
        await remote.invalidate(RECORD)

        assert (await remote.get_many([], ["t"])).states not in ([state], [None])

    async def test_a_block_replaces_another_type(self, remote: Remote, ask: Ask) -> None:
        """Of a key and of a tag, and it ends as any other."""
        await ask("RPUSH", ENTRY, "x")
        await ask("RPUSH", "test:{t}:t", "x")

        await remote.block(RECORD, TOKEN, 20)
        assert not await remote.seize("k", LEASE, 20)
        await remote.unblock(RECORD, TOKEN)

        assert set(await ask("KEYS", "*")) <= {b"test:{*}:last"}

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

        assert await contents(remote, ["k", ""]) == [FRAME, FRAME]
        lives = [await ask("PTTL", name) for name in await ask("KEYS", "*")]
        assert lives.count(-1) == 2


class HourAhead(SystemClock):
    """The clock of a machine whose wall clock is an hour ahead."""

    @staticmethod
    def wall() -> float:
        """Return seconds since the epoch, as this machine believes."""
        return SystemClock.wall() + 3600
