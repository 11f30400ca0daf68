"""The promises of `abc.Remote` about what is no longer true, as tests: tags, blocks, the bus."""

import asyncio
from dataclasses import replace
from itertools import pairwise
from typing import Final

import pytest

from async_tiercache._clock import SystemClock
from async_tiercache._entry import Header
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, UNREACHED, Invalidation, Remote
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET, STAMP_BYTES, stamp
from async_tiercache.tags import NEVER_SERVED, TagState, judge, state_of
from async_tiercache.testing.contracts._heard import BOUND, listening
from async_tiercache.testing.contracts._samples import (
    BRIEF,
    FRAME,
    ID,
    LEASE,
    LONG,
    NEW_FRAME,
    NEW_STAMP,
    OTHER_LEASE,
    SHORT,
    Waiting,
    contents,
    put,
)

_BODY: Final = bytes(56) + b"payload"
_HEAD: Final = b"VT\3\0\1\0"
ENTRY: Final = _HEAD + stamp(Header(ID, 1.0, 2.0, 3.0, 0.0, b"")) + _BODY
"""An entry whose stamp stands where frames have it."""

RECORD: Final = Invalidation(b"r" * 16, ("k",), ("t",))
SOFT: Final = replace(RECORD, soft=LONG)
TOKEN: Final = b"\x00\r\n\xffBLV*" * 2
OTHER_TOKEN: Final = b"o" * 16


class CoherencePromises(Waiting):
    """What `RemoteContract` promises about tags, soft invalidations, blocks and the bus."""

    # Tags.

    async def test_ensure_gives_each_tag_a_state(self, remote: Remote) -> None:
        """Of its own, which is read back by its place."""
        states = await remote.ensure(["b", "a"], LONG)

        assert all(state_of(state) for state in states)
        assert states[0] != states[1]
        assert (await remote.get_many([], ["a", "none", "b", "a"])).states == [
            states[1],
            None,
            states[0],
            states[1],
        ]
        assert await remote.ensure([], LONG) == []

    async def test_ensure_keeps_the_state_that_is_there(self, remote: Remote) -> None:
        """Whoever comes first decides."""
        answers = await asyncio.gather(*(remote.ensure(["t"], LONG) for _ in range(10)))

        assert len({state for (state,) in answers}) == 1
        assert (await remote.get_many([], ["t"])).states == answers[0]

    async def test_keys_and_tags_are_read_together(self, remote: Remote) -> None:
        """A key and a tag of the same text are two things."""
        (state,) = await remote.ensure(["k"], LONG)
        await put(remote, "k", FRAME)

        assert await remote.get_many(["l", "k"], ["k"]) == ([None, FRAME], [state])

    async def test_a_state_ends_by_itself(self, remote: Remote) -> None:
        """But for those of the namespace and of all tags; another one is not the same."""
        kept = await remote.ensure([NAMESPACE, TAG_EPOCH], BRIEF)
        before = await remote.ensure(["t"], BRIEF)

        await self._loses(remote, "t")

        assert await remote.ensure(["t"], LONG) != before
        assert (await remote.get_many([], [NAMESPACE, TAG_EPOCH])).states == kept

    async def test_a_state_lives_as_long_as_what_is_stored_with_it(self, remote: Remote) -> None:
        """Whether the entry is stored or renewed; it is not cut short."""
        tags = ["a", "b", "long"]
        await remote.ensure(["long"], LONG)
        states = await remote.ensure(tags, SHORT)
        await remote.seize("k", LEASE, LONG)

        assert await remote.commit("k", FRAME, LONG, fence=LEASE, tags=["a", "none"])
        assert await remote.stamp("k", NEW_STAMP, LONG, fence=ID, tags=["b"])
        assert await remote.stamp("k", NEW_STAMP, BRIEF, fence=NEW_STAMP, tags=["long"])
        await remote.ensure(["witness"], SHORT)
        await self._loses(remote, "witness")

        assert (await remote.get_many([], [*tags, "none"])).states == [*states, None]

    async def test_an_invalidated_tag_has_other_ids(self, remote: Remote) -> None:
        """Other than ever before, each time; other tags have what they had."""
        seen = [await self._state(remote, "t", LONG)]
        other = await self._state(remote, "other", LONG)

        for _ in range(3):
            await remote.invalidate(RECORD)
            seen.append(await self._state(remote, "t"))

        assert len({state.hard for state in seen}) == 4
        assert len({state.soft for state in seen}) == 4
        assert all(judge(seen[0].pair, state)[0] == "dead" for state in seen[1:])
        assert await self._state(remote, "other") == other

    async def test_tag_epoch_changes_with_every_tag(self, remote: Remote) -> None:
        """Softly, by a block and by its end too; not with keys."""
        keys = replace(RECORD, tags=())
        await remote.ensure(["t"], LONG)
        seen = [await self._state(remote, TAG_EPOCH, LONG)]

        await remote.invalidate(keys)
        assert await self._state(remote, TAG_EPOCH) == seen[0]
        for change in (
            remote.invalidate(RECORD),
            remote.invalidate(SOFT),
            remote.block(RECORD, TOKEN, LONG),
            remote.unblock(RECORD, TOKEN),
        ):
            await change
            seen.append(await self._state(remote, TAG_EPOCH))

        assert len({state.hard for state in seen}) == 5

    # Soft invalidations.

    async def test_a_soft_invalidation_leaves_a_stale_entry(self, remote: Remote) -> None:
        """Known by the record's id, and with another stamp; all else is as it was."""
        await put(remote, "k", ENTRY)
        await remote.mark("k", LEASE, LONG)

        await remote.invalidate(SOFT)

        (held,) = await contents(remote, ["k"])
        assert isinstance(held, bytes)
        assert held.startswith(_HEAD + SOFT.id)
        assert held[ENTRY_ID_OFFSET + STAMP_BYTES :] == _BODY
        assert held != ENTRY[:ENTRY_ID_OFFSET] + SOFT.id + ENTRY[ENTRY_ID_OFFSET + 16 :]
        assert await remote.mark("k", OTHER_LEASE, LONG)
        assert not await remote.commit("k", NEW_FRAME, LONG, fence=ID)
        assert await remote.commit("k", NEW_FRAME, LONG, fence=SOFT.id)

    async def test_what_is_soft_without_a_window_is_never_served(self, remote: Remote) -> None:
        """By no clock, however far behind; it is known what it was, all the same."""
        before = await self._state(remote, "t", LONG)

        await remote.invalidate(replace(SOFT, soft=0.0))

        state = await self._state(remote, "t")
        assert judge(before.pair, state) == ("stale", NEVER_SERVED)
        assert state.pair != before.pair

    async def test_a_soft_invalidation_leaves_no_lease(self, remote: Remote) -> None:
        """A load in progress may not store."""
        await remote.seize("k", LEASE, LONG)

        await remote.invalidate(SOFT)

        assert await contents(remote, ["k"]) == [None]

    async def test_a_stale_entry_ends(self, remote: Remote) -> None:
        """With its grace, and not later than it would have ended anyway."""
        await put(remote, "k", ENTRY)
        await remote.seize("short", LEASE, LONG)
        await remote.commit("short", ENTRY, BRIEF, fence=LEASE)

        await remote.invalidate(replace(SOFT, soft=BRIEF))
        await remote.invalidate(replace(SOFT, keys=("short",)))

        await self._becomes(remote, "k", None)
        await self._becomes(remote, "short", None)

    async def test_a_soft_invalidation_makes_stale_what_a_tag_has(self, remote: Remote) -> None:
        """The second one ends what the first one left."""
        before = await self._state(remote, "t", LONG)

        await remote.invalidate(SOFT)
        once = await self._state(remote, "t")
        await remote.invalidate(SOFT)
        twice = await self._state(remote, "t")

        assert judge(before.pair, once)[0] == "stale"
        assert abs(judge(before.pair, once)[1] - remote.now() - LONG) < LONG / 2
        assert judge(before.pair, twice)[0] == "dead"
        assert judge(once.pair, twice)[0] == "stale"
        assert before.hard == once.hard == twice.hard

    # Blocks.

    async def test_nothing_is_stored_under_a_block(self, remote: Remote) -> None:
        """Neither taken nor seized nor committed, and no state is given."""
        await remote.ensure(["t"], LONG)
        await remote.seize("k", LEASE, LONG)

        await remote.block(RECORD, TOKEN, LONG)

        assert not await remote.commit("k", FRAME, LONG, fence=LEASE)
        held = await remote.take("k", LEASE, LONG)
        assert held is not None
        assert await remote.take("k", LEASE, LONG, instead_of=held) == held
        assert not await remote.seize("k", LEASE, LONG)
        assert await contents(remote, ["k"]) == [held]
        assert held[:1] not in {b"L", b"V"}
        assert await remote.ensure(["t"], LONG) == [None]
        assert (await remote.get_many([], ["t"])).states == [None]

    async def test_a_block_removes_what_is_there(self, remote: Remote) -> None:
        """A refresh that had seen the entry may not store."""
        await put(remote, "k", FRAME)
        await remote.mark("k", LEASE, LONG)

        await remote.block(RECORD, TOKEN, LONG)

        assert await remote.mark("k", OTHER_LEASE, LONG)
        assert not await remote.commit("k", NEW_FRAME, LONG, fence=ID)

    async def test_an_invalidation_leaves_a_block(self, remote: Remote) -> None:
        """Whatever its kind."""
        await remote.block(RECORD, TOKEN, LONG)

        await remote.invalidate(RECORD)
        await remote.invalidate(SOFT)

        assert not await remote.seize("k", LEASE, LONG)
        assert await remote.ensure(["t"], LONG) == [None]

    async def test_a_block_ends_with_the_last_who_blocks(self, remote: Remote) -> None:
        """In any order, and an end of what is not there ends no other's."""
        await remote.block(RECORD, TOKEN, LONG)
        await remote.block(RECORD, OTHER_TOKEN, LONG)

        await remote.unblock(RECORD, b"n" * 16)
        await remote.unblock(RECORD, TOKEN)
        assert not await remote.seize("k", LEASE, LONG)
        assert await remote.ensure(["t"], LONG) == [None]
        await remote.unblock(RECORD, OTHER_TOKEN)

        assert await contents(remote, ["k"]) == [None]
        assert await remote.seize("k", LEASE, LONG)
        assert await remote.ensure(["t"], LONG) != [None]

    async def test_a_block_ends_by_itself(self, remote: Remote) -> None:
        """Unless it is renewed; a short one does not end a long one."""
        await remote.block(replace(RECORD, keys=("k", "l")), TOKEN, BRIEF)
        await remote.block(replace(RECORD, keys=("l",), tags=()), OTHER_TOKEN, LONG)
        await remote.block(replace(RECORD, keys=("m",), tags=()), TOKEN, BRIEF)
        await remote.block(replace(RECORD, keys=("m",), tags=()), TOKEN, LONG, renewing=True)

        await self._becomes(remote, "k", None)
        await self._until(lambda: self._ensures(remote, "t"))

        assert None not in await contents(remote, ["l", "m"])

    async def test_the_end_of_a_block_invalidates(self, remote: Remote) -> None:
        """What was stored although it should have been blocked, too."""
        before = await self._state(remote, "t", LONG)
        await remote.unblock(RECORD, TOKEN)
        after = await self._state(remote, "t", LONG)
        await put(remote, "k", FRAME)

        await remote.unblock(RECORD, TOKEN)

        assert await contents(remote, ["k"]) == [None]
        assert judge(before.pair, after)[0] == "dead"

    # The bus.

    async def test_a_gap_comes_before_the_first_proof(self, remote: Remote) -> None:
        """What was before it is not known."""
        async with listening(remote, self.deadline) as heard:
            await heard.until(lambda: len(heard.proofs()) > 1, self.deadline)

        assert heard.events[0] == ("gap", None)
        # Where messages go from server to server, one from before may still be on its way.
        assert set(heard.names()) <= {"gap", "apply"}

    async def test_all_are_told_of_what_is_invalidated(self, remote: Remote) -> None:
        """Who has invalidated it, too: keys, tags, pattern, and whether it is soft."""
        record = Invalidation(b"\xff" * 16, ("k", "\u00e9"), ("t", NAMESPACE), 1.5, "k*")
        async with listening(remote, self.deadline) as heard:
            await remote.invalidate(record)
            await heard.until(lambda: _keys(heard.records()) == {"k", "\u00e9"}, self.deadline)
            told = heard.records()
            await heard.until(lambda: "k*" in {each.pattern for each in told}, self.deadline)

            assert {tag for each in told for tag in each.tags} == {"t", NAMESPACE}
            assert {(each.id, each.soft) for each in told} == {(record.id, 1.5)}

    @pytest.mark.parametrize("held", [LEASE, OTHER_LEASE], ids=["stored", "refused"])
    async def test_all_are_told_of_what_is_put(self, remote: Remote, held: bytes) -> None:
        """Also if it was not stored: whoever has put something else may not tell of it."""
        record = replace(RECORD, tags=())
        await put(remote, "k", held)
        async with listening(remote, self.deadline) as heard:
            await remote.commit("k", FRAME, LONG, fence=LEASE, tell=record)
            await heard.until(lambda: _keys(heard.records()) == {"k"}, self.deadline)

            assert [each.id for each in heard.records()] == [record.id]
        assert await contents(remote, ["k"]) == [FRAME if held == LEASE else held]

    async def test_all_are_told_of_blocks(self, remote: Remote) -> None:
        """Of their beginning and their end, not of their renewal."""
        key = replace(RECORD, tags=())
        async with listening(remote, self.deadline) as heard:

            def told() -> list[Invalidation]:
                return [each for each in heard.records() if each.id == key.id]

            await remote.block(key, TOKEN, LONG)
            await heard.until(lambda: len(told()) == 1, self.deadline)
            await remote.block(key, TOKEN, LONG, renewing=True)
            await remote.unblock(key, TOKEN)
            await heard.until(lambda: len(told()) >= 2, self.deadline)
            await heard.proof(SystemClock.monotonic(), self.deadline)

        assert told() == [key, key]

    async def test_a_proof_comes_after_what_it_is_about(self, remote: Remote) -> None:
        """All that was told before a moment is applied before a proof about that moment."""
        async with listening(remote, self.deadline) as heard:
            for number in range(20):
                await remote.invalidate(Invalidation(bytes([number]) * 16, (f"k{number}",)))
            now = SystemClock.monotonic()
            await heard.proof(now, self.deadline)

        first = next(
            index
            for index, (_, what) in enumerate(heard.events)
            if isinstance(what, float) and what > now + BOUND
        )
        told = [what.keys for _, what in heard.events[:first] if isinstance(what, Invalidation)]
        assert sorted(told) == sorted((f"k{number}",) for number in range(20))

    async def test_a_proof_is_good_for_the_bound(self, remote: Remote) -> None:
        """Not longer, counted from before it was asked for; the next one comes before it ends."""
        async with listening(remote, self.deadline) as heard:
            for _ in range(5):
                count = len(heard.proofs())
                await heard.until(lambda count=count: len(heard.proofs()) > count, self.deadline)  # type: ignore[misc]
                assert heard.proofs()[-1] <= SystemClock.monotonic() + BOUND

            proofs = heard.proofs()
            assert proofs == sorted(proofs)
            assert max(b - a for a, b in pairwise(proofs)) < BOUND

    async def test_nothing_is_told_after_the_end(self, remote: Remote) -> None:
        """Whoever has stopped to listen is left alone."""
        async with listening(remote, self.deadline) as heard:
            pass
        events = list(heard.events)

        async with listening(remote, self.deadline) as other:
            await remote.invalidate(replace(RECORD, tags=()))
            await other.until(lambda: bool(other.records()), self.deadline)

        assert heard.events == events

    async def test_the_end_of_a_load_wakes_who_waits(self, remote: Remote) -> None:
        """Whether it has stored something, was refused, or gave up."""
        async with listening(remote, self.deadline) as heard:
            for number, ends in enumerate(("commit", "refused", "release")):
                key = f"k{number}"
                await remote.seize(key, LEASE, LONG)
                assert await remote.await_fill(key, LEASE) == LEASE
                assert await remote.await_fill(key, LEASE) == LEASE
                if ends == "release":
                    await remote.release(key, LEASE)
                else:
                    fence = LEASE if ends == "commit" else OTHER_LEASE
                    await remote.commit(key, FRAME, LONG, fence=fence)
                await heard.until(lambda key=key: ("wake", key) in heard.events, self.deadline)  # type: ignore[misc]

    async def test_who_need_not_wait_is_told_so(self, remote: Remote) -> None:
        """The key holds something else, or nothing; nobody is woken for it then."""
        await put(remote, "entry", FRAME)
        await put(remote, "lease", OTHER_LEASE)
        async with listening(remote, self.deadline) as heard:
            assert await remote.await_fill("entry", LEASE) == FRAME
            assert await remote.await_fill("lease", LEASE) == OTHER_LEASE
            assert await remote.await_fill("none", LEASE) is None
            await remote.release("lease", OTHER_LEASE)
            await heard.proof(SystemClock.monotonic(), self.deadline)

        # Where messages go from server to server, one from before may still be on its way.
        assert set(heard.names()) <= {"gap", "apply"}

    async def test_without_a_listener_one_may_wait(self, remote: Remote) -> None:
        """And is told what the key holds."""
        await put(remote, "k", LEASE)

        assert await remote.await_fill("k", LEASE) == LEASE
        assert await remote.await_fill("none", LEASE) is None

    # Keys as a whole.

    async def test_scan_finds_the_keys_of_a_glob(self, remote: Remote) -> None:
        """All of them, and nothing but keys."""
        texts = {f"user:{number}" for number in range(30)}
        for text in texts:
            await put(remote, text, FRAME)
        await put(remote, "user", FRAME)
        await put(remote, "order:1", FRAME)
        await remote.mark("user:1", LEASE, LONG)
        await remote.ensure(["user:t", NAMESPACE], LONG)
        await remote.secret()

        assert await self._scanned(remote, "user:*") == texts
        assert await self._scanned(remote, "user:[12]?") == {f"user:{n}" for n in range(10, 30)}
        assert await self._scanned(remote, "*") == {*texts, "user", "order:1"}
        assert await self._scanned(remote, "none*") == set()

    async def test_the_secret_is_shared(self, remote: Remote) -> None:
        """By all who ask, at the same time too."""
        secrets = await asyncio.gather(*(remote.secret() for _ in range(10)))

        assert len({*secrets, await remote.secret()}) == 1
        assert len(secrets[0]) == 32

    async def _state(self, remote: Remote, tag: str, seconds: float | None = None) -> TagState:
        """Return the state of a tag; give it one if it shall live so many seconds."""
        if seconds is not None:
            await remote.ensure([tag], seconds)
        held = (await remote.get_many([], [tag])).states[0]
        assert held is not UNREACHED
        state = state_of(held)
        assert state is not None
        return state

    async def _loses(self, remote: Remote, tag: str) -> None:
        async def lost() -> bool:
            return (await remote.get_many([], [tag])).states == [None]

        await self._until(lost)

    async def _ensures(self, remote: Remote, tag: str) -> bool:
        return await remote.ensure([tag], LONG) != [None]

    async def _scanned(self, remote: Remote, pattern: str) -> set[str]:
        return {key async for batch in remote.scan(pattern) for key in batch}


def _keys(records: list[Invalidation]) -> set[str]:
    return {key for record in records for key in record.keys}
