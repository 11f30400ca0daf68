"""The contract of `abc.Remote`: each test is one of its promises, whatever is behind it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import pytest

from async_tiercache._clock import SystemClock
from async_tiercache.abc import Invalidation, Remote
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET
from async_tiercache.errors import TierError, TierRefusedError
from async_tiercache.testing.contracts._coherence import CoherencePromises
from async_tiercache.testing.contracts._samples import (
    BRIEF,
    FRAME,
    ID,
    LEASE,
    LONG,
    NEW_FRAME,
    NEW_STAMP,
    OTHER_FRAME,
    OTHER_LEASE,
    SHORT,
    contents,
    frame,
    put,
)

Call: TypeAlias = Callable[[Remote], Awaitable[object]]

_TICKS: Final = 30
"""Loop ticks after which a caller is cancelled at the latest."""

_RECORD: Final = Invalidation(b"i" * 16, ("k",), ("t",))
_CALLS: Final[dict[str, Call]] = {
    "probe": lambda remote: remote.probe(),
    "get_many": lambda remote: remote.get_many(["k"]),
    "take": lambda remote: remote.take("k", LEASE, LONG),
    "take_instead": lambda remote: remote.take("k", LEASE, LONG, instead_of=FRAME),
    "seize": lambda remote: remote.seize("k", LEASE, LONG),
    "mark": lambda remote: remote.mark("k", LEASE, LONG),
    "renew": lambda remote: remote.renew("k", LEASE, LONG),
    "release": lambda remote: remote.release("k", LEASE),
    "commit": lambda remote: remote.commit("k", FRAME, LONG, fence=LEASE),
    "stamp": lambda remote: remote.stamp("k", NEW_STAMP, LONG, fence=ID),
    "invalidate": lambda remote: remote.invalidate(_RECORD),
    "ensure": lambda remote: remote.ensure(["t"], LONG),
    "await_fill": lambda remote: remote.await_fill("k", LEASE),
    "block": lambda remote: remote.block(_RECORD, ID, LONG),
    "unblock": lambda remote: remote.unblock(_RECORD, ID),
    "scan": lambda remote: anext(remote.scan("*")),
    "secret": lambda remote: remote.secret(),
}


def _overridable(function: Callable[..., Any]) -> Any:
    """Make a fixture of no particular type: a subclass may define it as a coroutine, for one."""
    return pytest.fixture(function)


@pytest.mark.asyncio
class RemoteContract(CoherencePromises):
    """The promises of `abc.Remote`, as tests.

    A subclass defines the fixture ``remote``: a backend on real time that holds nothing, closed
    after the test. It may define ``lost``: the same backend, whose server is out of reach.

    Two promises are left to tests of your own: that a server that hangs costs no more than the
    limit, and that `aclose` closes what was opened.

    Attributes:
        deadline: Seconds after which whatever should have happened has failed to.
    """

    @_overridable
    def lost(self) -> Remote:
        """Return a remote whose server is out of reach."""
        pytest.skip("no fixture `lost`: a backend whose server is out of reach")

    # Reading.

    async def test_get_many_answers_in_the_order_of_the_keys(self, remote: Remote) -> None:
        """Each key has its own answer at its own place, `None` for nothing, repetitions too."""
        await put(remote, "a", FRAME)
        await put(remote, "b", OTHER_FRAME)

        answers = await contents(remote, ["b", "none", "a", "b"])

        assert answers == [OTHER_FRAME, None, FRAME, OTHER_FRAME]
        assert await contents(remote, ["a"]) == [FRAME]
        assert await contents(remote, []) == []

    async def test_concurrent_reads_have_their_own_answers(self, remote: Remote) -> None:
        """Reads that share a turn do not share an answer."""
        frames = [frame(bytes([number]) * 16) for number in range(20)]
        for number, each in enumerate(frames):
            await put(remote, f"k{number}", each)

        answers = await asyncio.gather(*(contents(remote, [f"k{n}"]) for n in range(100)))

        assert answers == [[frames[n] if n < 20 else None] for n in range(100)]

    async def test_a_frame_is_kept_byte_by_byte(self, remote: Remote) -> None:
        """Every byte at every place, a megabyte of them."""
        large = frame(ID, bytes(range(256)) * 4096)

        await put(remote, "k", large)

        assert await contents(remote, ["k"]) == [large]

    # Leases.

    async def test_take_leases_a_key_that_holds_nothing(self, remote: Remote) -> None:
        """The lease is what the key holds then."""
        assert await remote.take("k", LEASE, LONG) is None

        assert await contents(remote, ["k"]) == [LEASE]

    async def test_take_is_won_by_one(self, remote: Remote) -> None:
        """Of many at the same time; the others are told who."""
        leases = [b"L" + bytes([number]) * 16 for number in range(20)]

        answers = await asyncio.gather(*(remote.take("k", lease, LONG) for lease in leases))

        winner = leases[answers.index(None)]
        assert sorted(answers, key=lambda answer: answer or b"") == [None, *[winner] * 19]
        assert await contents(remote, ["k"]) == [winner]

    @pytest.mark.parametrize("held", [FRAME, OTHER_LEASE], ids=["entry", "lease"])
    async def test_take_returns_what_a_key_holds(self, remote: Remote, held: bytes) -> None:
        """What is there stays there."""
        await put(remote, "k", held)

        assert await remote.take("k", LEASE, LONG) == held

        assert await contents(remote, ["k"]) == [held]

    async def test_take_repeated_finds_its_own_lease(self, remote: Remote) -> None:
        """A first try whose reply was lost has won."""
        assert await remote.take("k", LEASE, LONG) is None

        assert await remote.take("k", LEASE, LONG) is None
        assert await remote.take("k", LEASE, LONG, instead_of=FRAME) is None

    @pytest.mark.parametrize("held", [FRAME, None], ids=["dead", "vanished"])
    async def test_take_replaces_the_bytes_it_was_told(
        self, remote: Remote, held: bytes | None
    ) -> None:
        """Dead bytes become a lease in one step; nothing is as good as them."""
        await put(remote, "k", held)

        assert await remote.take("k", LEASE, LONG, instead_of=FRAME) is None

        assert await contents(remote, ["k"]) == [LEASE]

    @pytest.mark.parametrize("held", [OTHER_FRAME, OTHER_LEASE], ids=["entry", "lease"])
    async def test_take_leaves_what_has_changed_meanwhile(
        self, remote: Remote, held: bytes
    ) -> None:
        """What came after the dead bytes is returned and stays."""
        await put(remote, "k", held)

        assert await remote.take("k", LEASE, LONG, instead_of=FRAME) == held

        assert await contents(remote, ["k"]) == [held]

    @pytest.mark.parametrize("held", [None, FRAME, OTHER_LEASE], ids=["nothing", "entry", "lease"])
    async def test_seize_replaces_whatever_is_there(
        self, remote: Remote, held: bytes | None
    ) -> None:
        """After it the key holds the new lease."""
        await put(remote, "k", held)

        await remote.seize("k", LEASE, LONG)

        assert await contents(remote, ["k"]) == [LEASE]

    @pytest.mark.parametrize("claim", ["take", "take_instead", "seize"])
    async def test_a_lease_ends_by_itself(self, remote: Remote, claim: str) -> None:
        """A holder that died delays others by its lease's time, and no longer."""
        if claim == "seize":
            await remote.seize("k", LEASE, BRIEF)
        else:
            instead_of = FRAME if claim == "take_instead" else None
            await put(remote, "k", instead_of)
            assert await remote.take("k", LEASE, BRIEF, instead_of=instead_of) is None

        await self._becomes(remote, "k", None)

    # Marks.

    async def test_mark_is_won_by_one(self, remote: Remote) -> None:
        """The second is told no; the entry is as it was, and other keys have marks of their own."""
        await put(remote, "k", FRAME)

        assert await remote.mark("k", LEASE, LONG)
        assert not await remote.mark("k", OTHER_LEASE, LONG)
        assert await remote.mark("kk", OTHER_LEASE, LONG)

        assert await contents(remote, ["k", "kk"]) == [FRAME, None]

    async def test_mark_repeated_finds_its_own_mark(self, remote: Remote) -> None:
        """A first try whose reply was lost has won."""
        assert await remote.mark("k", LEASE, LONG)
        assert await remote.mark("k", LEASE, LONG)

    async def test_a_mark_ends_by_itself(self, remote: Remote) -> None:
        """A refresher that died does not hold up the next one for ever."""
        await put(remote, "k", FRAME)
        assert await remote.mark("k", LEASE, BRIEF)

        await self._until(lambda: remote.mark("k", OTHER_LEASE, LONG))

        assert await contents(remote, ["k"]) == [FRAME]

    # Renewals.

    async def test_renew_prolongs_our_lease(self, remote: Remote) -> None:
        """It outlives one that was taken later for as long as it had at first."""
        await remote.seize("k", LEASE, SHORT)
        assert await remote.renew("k", LEASE, LONG)
        await remote.seize("witness", OTHER_LEASE, SHORT)

        await self._becomes(remote, "witness", None)

        assert await contents(remote, ["k"]) == [LEASE]

    async def test_renew_prolongs_our_mark(self, remote: Remote) -> None:
        """It outlives one that was made later for as long as it had at first."""
        await put(remote, "k", FRAME)
        await remote.mark("k", LEASE, SHORT)
        assert await remote.renew("k", LEASE, LONG)
        await remote.seize("witness", OTHER_LEASE, SHORT)

        await self._becomes(remote, "witness", None)

        assert not await remote.mark("k", OTHER_LEASE, LONG)

    @pytest.mark.parametrize("held", [None, FRAME, OTHER_LEASE], ids=["nothing", "entry", "lease"])
    async def test_renew_says_no_to_what_is_not_ours(
        self, remote: Remote, held: bytes | None
    ) -> None:
        """And leaves it as it was."""
        await put(remote, "k", held)

        assert not await remote.renew("k", LEASE, LONG)

        assert await contents(remote, ["k"]) == [held]

    async def test_renew_gives_no_time_to_what_is_not_ours(self, remote: Remote) -> None:
        """Another's lease or mark ends when they said."""
        await remote.seize("k", OTHER_LEASE, BRIEF)
        await remote.mark("marked", OTHER_LEASE, BRIEF)

        await remote.renew("k", LEASE, LONG)
        await remote.renew("marked", LEASE, LONG)

        await self._becomes(remote, "k", None)
        await self._until(lambda: remote.mark("marked", LEASE, LONG))

    # Releases.

    async def test_release_removes_our_lease(self, remote: Remote) -> None:
        """The key holds nothing again."""
        await remote.seize("k", LEASE, LONG)

        await remote.release("k", LEASE)

        assert await contents(remote, ["k"]) == [None]

    async def test_release_removes_our_mark_and_leaves_the_entry(self, remote: Remote) -> None:
        """Another may refresh the entry."""
        await put(remote, "k", FRAME)
        await remote.mark("k", LEASE, LONG)

        await remote.release("k", LEASE)

        assert await remote.mark("k", OTHER_LEASE, LONG)
        assert await contents(remote, ["k"]) == [FRAME]

    @pytest.mark.parametrize("held", [None, FRAME, OTHER_LEASE], ids=["nothing", "entry", "lease"])
    async def test_release_leaves_what_is_not_ours(
        self, remote: Remote, held: bytes | None
    ) -> None:
        """A release that comes late takes nothing from others."""
        await put(remote, "k", held)
        await remote.mark("k", OTHER_LEASE, LONG)

        await remote.release("k", LEASE)

        assert await contents(remote, ["k"]) == [held]
        assert not await remote.mark("k", LEASE, LONG)

    # Commits.

    async def test_commit_replaces_our_lease(self, remote: Remote) -> None:
        """The frame is what the key holds then."""
        await remote.seize("k", LEASE, LONG)

        assert await remote.commit("k", FRAME, LONG, fence=LEASE)

        assert await contents(remote, ["k"]) == [FRAME]

    async def test_commit_replaces_the_entry_that_was_refreshed(self, remote: Remote) -> None:
        """The entry is the new one, and its mark is gone."""
        await put(remote, "k", FRAME)
        await remote.mark("k", LEASE, LONG)

        assert await remote.commit("k", NEW_FRAME, LONG, fence=ID, mark=LEASE)

        assert await contents(remote, ["k"]) == [NEW_FRAME]
        assert await remote.mark("k", OTHER_LEASE, LONG)

    @pytest.mark.parametrize("marked", [False, True], ids=["vanished", "another"])
    async def test_commit_is_refused_when_our_mark_is_gone(
        self, remote: Remote, marked: bool
    ) -> None:
        """An invalidation has taken it, or a refresher that came later; theirs stays."""
        await put(remote, "k", FRAME)
        if marked:
            await remote.mark("k", OTHER_LEASE, LONG)

        assert not await remote.commit("k", NEW_FRAME, LONG, fence=ID, mark=LEASE)

        assert await contents(remote, ["k"]) == [FRAME]
        assert await remote.mark("k", LEASE, LONG) is not marked

    @pytest.mark.parametrize("held", [None, FRAME, OTHER_LEASE], ids=["vanished", "entry", "lease"])
    async def test_commit_is_refused_when_our_lease_is_gone(
        self, remote: Remote, held: bytes | None
    ) -> None:
        """Whatever came between stays as it is."""
        await put(remote, "k", held)

        assert not await remote.commit("k", NEW_FRAME, LONG, fence=LEASE)

        assert await contents(remote, ["k"]) == [held]

    @pytest.mark.parametrize(
        "held", [None, OTHER_FRAME, OTHER_LEASE], ids=["vanished", "entry", "lease"]
    )
    async def test_commit_is_refused_when_the_entry_is_another(
        self, remote: Remote, held: bytes | None
    ) -> None:
        """Whatever came between stays as it is, our mark too: it is released apart."""
        await put(remote, "k", held)
        await remote.mark("k", LEASE, LONG)

        assert not await remote.commit("k", NEW_FRAME, LONG, fence=ID, mark=LEASE)

        assert await contents(remote, ["k"]) == [held]
        assert not await remote.mark("k", OTHER_LEASE, LONG)

    async def test_commit_happens_once(self, remote: Remote) -> None:
        """A repeated commit, which may come at any later time, finds its fence used."""
        await remote.seize("k", LEASE, LONG)
        assert await remote.commit("k", FRAME, LONG, fence=LEASE)

        assert not await remote.commit("k", NEW_FRAME, LONG, fence=LEASE)

        assert await contents(remote, ["k"]) == [FRAME]

    @pytest.mark.parametrize("fence", [LEASE, ID], ids=["lease", "refresh"])
    async def test_commit_repeated_finds_its_own_frame(self, remote: Remote, fence: bytes) -> None:
        """A first try whose reply was lost has stored it, unless something came between."""
        mark = LEASE if fence is ID else None
        await put(remote, "k", LEASE if mark is None else FRAME)
        if mark is not None:
            await remote.mark("k", mark, LONG)
        assert await remote.commit("k", NEW_FRAME, LONG, fence=fence, mark=mark)
        await remote.mark("k", OTHER_LEASE, LONG)

        assert await remote.commit("k", NEW_FRAME, LONG, fence=fence, mark=mark)

        assert await contents(remote, ["k"]) == [NEW_FRAME]
        assert not await remote.mark("k", LEASE, LONG)
        await remote.invalidate(Invalidation(b"i" * 16, ("k",)))
        assert not await remote.commit("k", NEW_FRAME, LONG, fence=fence, mark=mark)
        assert await contents(remote, ["k"]) == [None]

    async def test_commit_of_many_stores_one(self, remote: Remote) -> None:
        """To compare and to store is one step."""
        await put(remote, "k", FRAME)
        frames = [frame(bytes([number]) * 16) for number in range(10, 30)]

        answers = await asyncio.gather(
            *(remote.commit("k", each, LONG, fence=ID) for each in frames)
        )

        assert sorted(answers) == [False] * 19 + [True]
        assert await contents(remote, ["k"]) == [frames[answers.index(True)]]

    # Stamps.

    async def test_stamp_renames_the_entry_and_leaves_its_value(self, remote: Remote) -> None:
        """Its mark is gone, and no byte but those of the stamp has changed."""
        await put(remote, "k", FRAME)
        await remote.mark("k", LEASE, LONG)

        assert await remote.stamp("k", NEW_STAMP, LONG, fence=ID, mark=LEASE)

        assert await contents(remote, ["k"]) == [NEW_FRAME]
        assert await remote.mark("k", OTHER_LEASE, LONG)

    @pytest.mark.parametrize("marked", [False, True], ids=["vanished", "another"])
    async def test_stamp_is_refused_when_our_mark_is_gone(
        self, remote: Remote, marked: bool
    ) -> None:
        """An invalidation has taken it, or a refresher that came later; theirs stays."""
        await put(remote, "k", FRAME)
        if marked:
            await remote.mark("k", OTHER_LEASE, LONG)

        assert not await remote.stamp("k", NEW_STAMP, LONG, fence=ID, mark=LEASE)

        assert await contents(remote, ["k"]) == [FRAME]
        assert await remote.mark("k", LEASE, LONG) is not marked

    async def test_stamp_gives_the_entry_its_time(self, remote: Remote) -> None:
        """Counted from now, shorter or longer than before."""
        await put(remote, "k", FRAME)

        assert await remote.stamp("k", NEW_STAMP, BRIEF, fence=ID)

        await self._becomes(remote, "k", None)

    @pytest.mark.parametrize(
        "held", [None, OTHER_FRAME, OTHER_LEASE], ids=["vanished", "entry", "lease"]
    )
    async def test_stamp_is_refused_when_the_entry_is_another(
        self, remote: Remote, held: bytes | None
    ) -> None:
        """Whatever came between stays as it is, our mark too: it is released apart."""
        await put(remote, "k", held)
        await remote.mark("k", LEASE, LONG)

        assert not await remote.stamp("k", NEW_STAMP, LONG, fence=ID, mark=LEASE)

        assert await contents(remote, ["k"]) == [held]
        assert not await remote.mark("k", OTHER_LEASE, LONG)

    async def test_stamp_happens_once(self, remote: Remote) -> None:
        """A repeated one, which may come at any later time, finds another entry."""
        await put(remote, "k", FRAME)
        assert await remote.stamp("k", NEW_STAMP, LONG, fence=ID)

        assert not await remote.stamp("k", OTHER_FRAME[ENTRY_ID_OFFSET:][:16], LONG, fence=ID)

        assert await contents(remote, ["k"]) == [NEW_FRAME]

    async def test_stamp_repeated_finds_its_own_stamp(self, remote: Remote) -> None:
        """A first try whose reply was lost has written it, unless something came between."""
        await put(remote, "k", FRAME)
        await remote.mark("k", LEASE, LONG)
        assert await remote.stamp("k", NEW_STAMP, LONG, fence=ID, mark=LEASE)

        assert await remote.stamp("k", NEW_STAMP, LONG, fence=ID, mark=LEASE)

        assert await contents(remote, ["k"]) == [NEW_FRAME]
        await remote.invalidate(Invalidation(b"i" * 16, ("k",)))
        assert not await remote.stamp("k", NEW_STAMP, LONG, fence=ID, mark=LEASE)

    # Invalidations.

    async def test_invalidate_removes_entries_leases_and_marks(self, remote: Remote) -> None:
        """All that the keys hold, and nothing of other keys."""
        await put(remote, "entry", FRAME)
        await put(remote, "lease", LEASE)
        await put(remote, "kk", FRAME)
        await remote.mark("entry", LEASE, LONG)
        await remote.mark("kk", LEASE, LONG)

        await remote.invalidate(Invalidation(b"i" * 16, ("entry", "lease", "none")))

        assert await contents(remote, ["entry", "lease", "kk"]) == [None, None, FRAME]
        assert await remote.mark("entry", OTHER_LEASE, LONG)
        assert not await remote.mark("kk", OTHER_LEASE, LONG)

    @pytest.mark.parametrize("fence", [LEASE, ID], ids=["lease", "refresh"])
    async def test_commit_after_an_invalidation_is_refused(
        self, remote: Remote, fence: bytes
    ) -> None:
        """Neither the lease nor the old entry is there to be replaced."""
        await put(remote, "k", LEASE if fence is LEASE else FRAME)
        await remote.invalidate(_RECORD)

        assert not await remote.commit("k", NEW_FRAME, LONG, fence=fence)

        assert await contents(remote, ["k"]) == [None]

    # The tier as a whole.

    async def test_a_cancelled_caller_cuts_no_command_short(self, remote: Remote) -> None:
        """What was asked happens whole or not at all, wherever the caller is cancelled."""
        for ticks in range(_TICKS):
            key = f"k{ticks}"
            await put(remote, key, FRAME)
            await remote.mark(key, LEASE, LONG)
            commit = remote.commit(key, NEW_FRAME, LONG, fence=ID, mark=LEASE)
            if not await _cancelled(commit, after=ticks):
                break

            if await remote.mark(key, OTHER_LEASE, LONG):
                assert await contents(remote, [key]) == [NEW_FRAME]
            elif await contents(remote, [key]) == [NEW_FRAME]:
                assert await remote.mark(key, OTHER_LEASE, LONG)

    async def test_a_cancelled_read_takes_no_answer_from_others(self, remote: Remote) -> None:
        """Its reply is read and dropped, or never asked for."""
        await put(remote, "a", FRAME)
        await put(remote, "b", OTHER_FRAME)

        for ticks in range(_TICKS):
            if not await _cancelled(contents(remote, ["a"]), after=ticks):
                break

            assert await contents(remote, ["b"]) == [OTHER_FRAME]

    async def test_now_is_the_time_since_the_epoch(self, remote: Remote) -> None:
        """In seconds, give or take a time zone, and it does not go back."""
        await remote.probe()
        times = [remote.now() for _ in range(10)]

        assert abs(times[0] - SystemClock.wall()) < 26 * 3600
        assert times == sorted(times)
        assert remote.now() <= remote.latest()

    async def test_a_probe_changes_nothing(self, remote: Remote) -> None:
        """It writes, to prove that it can, where no key is."""
        await put(remote, "k", FRAME)
        await put(remote, "", LEASE)

        await remote.probe()

        assert await contents(remote, ["k", ""]) == [FRAME, LEASE]

    @pytest.mark.parametrize("call", _CALLS)
    async def test_out_of_reach_every_call_raises_tier_error(self, lost: Remote, call: str) -> None:
        """That error alone, and within the limit: the cache goes around the tier then."""
        async with asyncio.timeout(self.deadline):
            with pytest.raises(TierError) as raised:
                await _CALLS[call](lost)

        assert not isinstance(raised.value, TierRefusedError)


async def _cancelled(work: Any, *, after: int) -> bool:
    """Cancel some work after so many ticks; return whether that came before its end."""
    task = asyncio.ensure_future(work)
    for _ in range(after):
        await asyncio.sleep(0)
    if task.done():
        task.result()
        return False
    task.cancel()
    await asyncio.wait([task])
    return True
