"""The contract of `abc.Remote`: what every L2 promises, whatever is behind it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from async_tiercache._clock import SystemClock
from async_tiercache.abc import Invalidation, Remote
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET

Ask: TypeAlias = Callable[..., Awaitable[Any]]

LEASE, OTHER_LEASE = b"L" + b"\x00\r\n\xff" * 4, b"L" + b"b" * 16
ID, OTHER_ID = b"\x01" * 16, b"\x02" * 16
ENTRY, MARK = "test:{k}", "test:{k}:r"


def frame(entry_id: bytes, payload: bytes = b"payload") -> bytes:
    """Return bytes that carry an entry id as frames do."""
    return b"V" + bytes(ENTRY_ID_OFFSET - 1) + entry_id + payload


FRAME, OTHER_FRAME, NEW_FRAME = frame(ID), frame(OTHER_ID), frame(b"\x03" * 16)


class RemoteContract:
    """Subclasses have the fixtures `remote`, of namespace ``test``, and `ask`, of its server."""

    async def test_get_many_answers_in_the_order_of_the_keys(
        self, remote: Remote, ask: Ask
    ) -> None:
        """Each key has its own answer at its own place, `None` for nothing, repetitions too."""
        await ask("SET", "test:{a}", b"A")
        await ask("SET", "test:{b}", b"B")

        assert await remote.get_many(["b", "none", "a", "b"]) == [b"B", None, b"A", b"B"]
        assert await remote.get_many(["a"]) == [b"A"]
        assert await remote.get_many([]) == []

    async def test_get_many_takes_another_type_for_nothing(self, remote: Remote, ask: Ask) -> None:
        """A list at our key is nothing, asked alone and among others."""
        await ask("RPUSH", ENTRY, "x")
        await ask("SET", "test:{a}", b"A")

        assert await remote.get_many(["k"]) == [None]
        assert await remote.get_many(["k", "a"]) == [None, b"A"]

    async def test_concurrent_reads_have_their_own_answers(self, remote: Remote, ask: Ask) -> None:
        """Reads that share a turn do not share an answer."""
        for number in range(100):
            await ask("SET", f"test:{{{number}}}", str(number))

        answers = await asyncio.gather(*(remote.get_many([str(n)]) for n in range(600)))

        assert answers == [[str(n).encode() if n < 100 else None] for n in range(600)]

    async def test_take_leases_a_key_that_holds_nothing(self, remote: Remote, ask: Ask) -> None:
        """The lease stands there, for its time."""
        assert await remote.take("k", LEASE, 20) is None

        assert await ask("GET", ENTRY) == LEASE
        assert 0 < await ask("PTTL", ENTRY) <= 20_000

    @pytest.mark.parametrize("held", [FRAME, OTHER_LEASE, b""], ids=["entry", "lease", "empty"])
    async def test_take_returns_what_a_key_holds(
        self, remote: Remote, ask: Ask, held: bytes
    ) -> None:
        """What is there stays there."""
        await ask("SET", ENTRY, held, "PX", 10_000)

        assert await remote.take("k", LEASE, 20) == held

        assert await ask("GET", ENTRY) == held
        assert await ask("PTTL", ENTRY) <= 10_000

    async def test_take_repeated_finds_its_own_lease(self, remote: Remote) -> None:
        """A first try whose reply was lost has won."""
        assert await remote.take("k", LEASE, 20) is None
        assert await remote.take("k", LEASE, 20) is None
        assert await remote.take("k", LEASE, 20, instead_of=b"damaged") is None
        assert await remote.take("k", OTHER_LEASE, 20) == LEASE

    async def test_take_replaces_exactly_what_it_was_told_to(
        self, remote: Remote, ask: Ask
    ) -> None:
        """Dead bytes become a lease in one step."""
        await ask("SET", ENTRY, FRAME)

        assert await remote.take("k", LEASE, 20, instead_of=FRAME) is None

        assert await ask("GET", ENTRY) == LEASE
        assert 0 < await ask("PTTL", ENTRY) <= 20_000

    async def test_take_leaves_what_has_changed_meanwhile(self, remote: Remote, ask: Ask) -> None:
        """What came after the dead bytes is returned and stays."""
        await ask("SET", ENTRY, OTHER_FRAME)

        assert await remote.take("k", LEASE, 20, instead_of=FRAME) == OTHER_FRAME

        assert await ask("GET", ENTRY) == OTHER_FRAME

    async def test_take_of_dead_bytes_that_have_vanished_succeeds(
        self, remote: Remote, ask: Ask
    ) -> None:
        """Nothing is as good as the dead bytes."""
        assert await remote.take("k", LEASE, 20, instead_of=FRAME) is None

        assert await ask("GET", ENTRY) == LEASE

    @pytest.mark.parametrize("instead_of", [None, FRAME], ids=["missing", "dead"])
    async def test_take_replaces_another_type(
        self, remote: Remote, ask: Ask, instead_of: bytes | None
    ) -> None:
        """A list at our key is nobody's entry."""
        await ask("RPUSH", ENTRY, "x")

        assert await remote.take("k", LEASE, 20, instead_of=instead_of) is None

        assert await ask("GET", ENTRY) == LEASE
        assert await ask("PTTL", ENTRY) > 0

    @pytest.mark.parametrize(
        "held",
        [None, ("SET", FRAME), ("SET", OTHER_LEASE), ("RPUSH", b"x")],
        ids=["nothing", "entry", "lease", "list"],
    )
    async def test_seize_replaces_whatever_is_there(
        self, remote: Remote, ask: Ask, held: tuple[str, bytes] | None
    ) -> None:
        """After it only the new lease stands there, for its time."""
        if held is not None:
            await ask(held[0], ENTRY, held[1])

        await remote.seize("k", LEASE, 20)

        assert await ask("GET", ENTRY) == LEASE
        assert 0 < await ask("PTTL", ENTRY) <= 20_000

    async def test_mark_is_won_by_one(self, remote: Remote, ask: Ask) -> None:
        """The second is told no; the entry is untouched; the mark has its time."""
        await ask("SET", ENTRY, FRAME)

        assert await remote.mark("k", LEASE, 20)
        assert not await remote.mark("k", OTHER_LEASE, 20)

        assert await ask("GET", ENTRY) == FRAME
        assert await ask("GET", MARK) == LEASE
        assert 0 < await ask("PTTL", MARK) <= 20_000

    async def test_mark_repeated_finds_its_own_mark(self, remote: Remote) -> None:
        """A first try whose reply was lost has won."""
        assert await remote.mark("k", LEASE, 20)
        assert await remote.mark("k", LEASE, 20)

    async def test_renew_prolongs_our_lease(self, remote: Remote, ask: Ask) -> None:
        """The lease has its new time."""
        await remote.take("k", LEASE, 20)

        assert await remote.renew("k", LEASE, 100)

        assert 20_000 < await ask("PTTL", ENTRY) <= 100_000

    async def test_renew_prolongs_our_mark_and_leaves_the_entry(
        self, remote: Remote, ask: Ask
    ) -> None:
        """The mark has its new time, the entry its old one."""
        await ask("SET", ENTRY, FRAME, "PX", 10_000)
        await remote.mark("k", LEASE, 20)

        assert await remote.renew("k", LEASE, 100)

        assert 20_000 < await ask("PTTL", MARK) <= 100_000
        assert await ask("PTTL", ENTRY) <= 10_000

    @pytest.mark.parametrize(
        "held",
        [None, ("SET", FRAME), ("SET", OTHER_LEASE), ("RPUSH", b"x")],
        ids=["nothing", "entry", "lease", "list"],
    )
    async def test_renew_says_no_to_what_is_not_ours(
        self, remote: Remote, ask: Ask, held: tuple[str, bytes] | None
    ) -> None:
        """What another put there gets no more time."""
        for name in (ENTRY, MARK):
            if held is not None:
                await ask(held[0], name, held[1])
                await ask("PEXPIRE", name, 10_000)

        assert not await remote.renew("k", LEASE, 100)

        assert await ask("PTTL", ENTRY) <= 10_000
        assert await ask("PTTL", MARK) <= 10_000

    async def test_release_removes_our_lease(self, remote: Remote, ask: Ask) -> None:
        """The key holds nothing again."""
        await remote.take("k", LEASE, 20)

        await remote.release("k", LEASE)

        assert await ask("EXISTS", ENTRY) == 0

    async def test_release_removes_our_mark_and_leaves_the_entry(
        self, remote: Remote, ask: Ask
    ) -> None:
        """Another may refresh the entry."""
        await ask("SET", ENTRY, FRAME)
        await remote.mark("k", LEASE, 20)

        await remote.release("k", LEASE)

        assert await ask("EXISTS", MARK) == 0
        assert await ask("GET", ENTRY) == FRAME

    @pytest.mark.parametrize(
        "held",
        [("SET", FRAME), ("SET", OTHER_LEASE), ("RPUSH", b"x")],
        ids=["entry", "lease", "list"],
    )
    async def test_release_leaves_what_is_not_ours(
        self, remote: Remote, ask: Ask, held: tuple[str, bytes]
    ) -> None:
        """A release that comes late takes nothing from others."""
        await ask(held[0], ENTRY, held[1])
        await ask(held[0], MARK, held[1])

        await remote.release("k", LEASE)

        assert await ask("EXISTS", ENTRY, MARK) == 2

    async def test_release_of_nothing_is_no_error(self, remote: Remote) -> None:
        """It may have expired."""
        await remote.release("k", LEASE)

    async def test_commit_replaces_our_lease(self, remote: Remote, ask: Ask) -> None:
        """The frame stands there, byte by byte, for its time."""
        await remote.take("k", LEASE, 20)
        large = frame(ID, bytes(range(256)) * 4096)

        assert await remote.commit("k", large, 100, fence=LEASE)

        assert await ask("GET", ENTRY) == large
        assert 20_000 < await ask("PTTL", ENTRY) <= 100_000

    async def test_commit_replaces_the_entry_that_was_refreshed(
        self, remote: Remote, ask: Ask
    ) -> None:
        """The entry is the new one, and its mark is gone."""
        await ask("SET", ENTRY, FRAME)
        await remote.mark("k", LEASE, 20)

        assert await remote.commit("k", NEW_FRAME, 100, fence=ID, mark=LEASE)

        assert await ask("GET", ENTRY) == NEW_FRAME
        assert 20_000 < await ask("PTTL", ENTRY) <= 100_000
        assert await ask("EXISTS", MARK) == 0

    async def test_commit_leaves_the_mark_of_another(self, remote: Remote, ask: Ask) -> None:
        """A refresher that lost its mark to another may commit, and removes nothing of theirs."""
        await ask("SET", ENTRY, FRAME)
        await ask("SET", MARK, OTHER_LEASE)

        assert await remote.commit("k", NEW_FRAME, 100, fence=ID, mark=LEASE)

        assert await ask("GET", MARK) == OTHER_LEASE

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
            None,
            ("SET", FRAME),
            ("SET", OTHER_LEASE),
            ("SET", LEASE + b"x"),
            ("SET", LEASE[:-1]),
            ("SET", b""),
            ("RPUSH", LEASE),
        ],
        ids=["vanished", "entry", "lease", "longer", "shorter", "empty", "list"],
    )
    async def test_commit_is_refused_when_our_lease_is_gone(
        self, remote: Remote, ask: Ask, held: tuple[str, bytes] | None
    ) -> None:
        """Whatever came between stays as it is."""
        if held is not None:
            await ask(held[0], ENTRY, held[1])
        before = await ask("DUMP", ENTRY)

        assert not await remote.commit("k", NEW_FRAME, 100, fence=LEASE)

        assert await ask("DUMP", ENTRY) == before

    @pytest.mark.parametrize(
        "held",
        [
            None,
            ("SET", OTHER_FRAME),
            ("SET", OTHER_LEASE),
            ("SET", b"x" + FRAME),
            ("SET", FRAME[: ENTRY_ID_OFFSET + 15]),
            ("SET", b""),
            ("RPUSH", FRAME),
        ],
        ids=["vanished", "entry", "lease", "shifted", "short", "empty", "list"],
    )
    async def test_commit_is_refused_when_the_entry_is_another(
        self, remote: Remote, ask: Ask, held: tuple[str, bytes] | None
    ) -> None:
        """Whatever came between stays as it is, our mark too: it is released apart."""
        if held is not None:
            await ask(held[0], ENTRY, held[1])
        await remote.mark("k", LEASE, 20)
        before = await ask("DUMP", ENTRY)

        assert not await remote.commit("k", NEW_FRAME, 100, fence=ID, mark=LEASE)

        assert await ask("DUMP", ENTRY) == before

    async def test_commit_happens_once(self, remote: Remote, ask: Ask) -> None:
        """A repeated commit, which may come at any later time, finds its fence used."""
        await remote.take("k", LEASE, 20)
        assert await remote.commit("k", FRAME, 100, fence=LEASE)

        assert not await remote.commit("k", NEW_FRAME, 100, fence=LEASE)

        assert await ask("GET", ENTRY) == FRAME

    async def test_invalidate_removes_entries_leases_and_marks(
        self, remote: Remote, ask: Ask
    ) -> None:
        """All that the keys hold, of any type, and nothing of other keys."""
        await ask("SET", ENTRY, FRAME)
        await ask("SET", MARK, LEASE)
        await ask("SET", "test:{leased}", LEASE)
        await ask("RPUSH", "test:{list}", "x")
        await ask("SET", "test:{kk}", FRAME)

        await remote.invalidate(Invalidation(b"i" * 16, ("k", "leased", "list", "none")))

        assert await ask("KEYS", "*") == [b"test:{kk}"]

    @pytest.mark.parametrize("fence", [LEASE, ID], ids=["lease", "refresh"])
    async def test_commit_after_an_invalidation_is_refused(
        self, remote: Remote, ask: Ask, fence: bytes
    ) -> None:
        """Neither the lease nor the old entry is there to be replaced."""
        await ask("SET", ENTRY, LEASE if fence is LEASE else FRAME)
        await remote.invalidate(Invalidation(b"i" * 16, ("k",)))

        assert not await remote.commit("k", NEW_FRAME, 100, fence=fence)

        assert await ask("EXISTS", ENTRY) == 0

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
        assert await remote.take("k", LEASE, 20, instead_of=FRAME) is None
        await ask("SCRIPT", "FLUSH")
        await remote.release("k", LEASE)

        assert await ask("EXISTS", ENTRY) == 0

    async def test_a_cancelled_caller_cuts_no_command_short(self, remote: Remote, ask: Ask) -> None:
        """What was asked happens, and the next caller gets its own answer."""
        await ask("SET", "test:{a}", b"A")
        taking = asyncio.create_task(remote.take("k", LEASE, 20))
        await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking

        assert await remote.get_many(["a", "k"]) in ([b"A", LEASE], [b"A", None])
        assert await remote.get_many(["k", "a"]) in ([LEASE, b"A"], [None, b"A"])

    async def test_now_follows_the_clock_of_the_server(self, remote: Remote, ask: Ask) -> None:
        """The clock of the fixture is an hour ahead; the remote's is not."""
        seconds, _ = await ask("TIME")

        assert abs(remote.now() - int(seconds)) < 60

    async def test_a_probe_touches_no_key(self, remote: Remote, ask: Ask) -> None:
        """It writes, to prove that it can, and leaves what is there as it is."""
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
