"""Remotes that each break a promise about what is no longer true: tags, blocks, the bus."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from math import inf
from secrets import token_bytes

from async_tiercache._clock import SystemClock
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, Content, Invalidation, Listener, Reading
from async_tiercache.tags import ID_BYTES
from tests.testing.broken_remotes import Broken
from tests.testing.remotes import Table


class Incoherent(Broken):
    """Breaks a promise about what is no longer true."""


class GivesOneStateToAll(Incoherent):
    found_by = ("ensure_gives_each_tag_a_state",)

    def new_state(self) -> bytes:
        return bytes(44)


class ReadsTagsInAnyOrder(Incoherent):
    found_by = ("ensure_gives_each_tag_a_state",)

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        return await super().get_many(keys, sorted(tags))


class EnsuresInTwoSteps(Incoherent):
    """Looks, and puts a turn later."""

    found_by = ("ensure_keeps_the_state_that_is_there",)

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        new = [tag for tag in tags if self.state(tag) is None]
        await self.turn()
        for tag in new:
            self.put(self.states, tag, self.new_state(), seconds)
        return [self.state(tag) for tag in tags]


class TakesTagsForKeys(Incoherent):
    found_by = ("keys_and_tags_are_read_together",)

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        contents, states = await super().get_many(keys, tags)
        return Reading(
            [self.state(key) or content for key, content in zip(keys, contents, strict=True)],
            states,
        )


class KeepsStatesForEver(Incoherent):
    found_by = ("a_state_ends_by_itself",)

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        return await super().ensure(tags, inf)


class ForgetsTheNamespace(Incoherent):
    found_by = ("a_state_ends_by_itself",)

    def put(self, table: Table, key: str, what: bytes, life: float) -> None:
        super().put(table, key, what, 0.04 if key in {NAMESPACE, TAG_EPOCH} else life)


class GivesTheSameStateAgain(Incoherent):
    """By the text of the tag, as a counter that was lost would."""

    found_by = ("a_state_ends_by_itself",)

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        for tag in tags:
            if self.state(tag) is None:
                self.put(self.states, tag, tag.encode()[:44].ljust(44), seconds)
        return await super().ensure(tags, seconds)


class ExtendsNothing(Incoherent):
    found_by = ("a_state_lives_as_long_as_what_is_stored_with_it",)

    def extend(self, tags: Sequence[str], seconds: float) -> None:
        pass


class CutsStatesShort(Incoherent):
    found_by = ("a_state_lives_as_long_as_what_is_stored_with_it",)

    def extend(self, tags: Sequence[str], seconds: float) -> None:
        for tag in tags:
            state = self.state(tag)
            if state is not None:
                self.put(self.states, tag, state, seconds)


class MakesStatesWhenItStores(Incoherent):
    found_by = ("a_state_lives_as_long_as_what_is_stored_with_it",)

    def extend(self, tags: Sequence[str], seconds: float) -> None:
        for tag in tags:
            if self.state(tag) is None:
                self.put(self.states, tag, self.new_state(), seconds)
        super().extend(tags, seconds)


class LeavesTags(Incoherent):
    found_by = ("an_invalidated_tag_has_other_ids", "the_end_of_a_block_invalidates")

    def invalidate_tag(self, tag: str, record: Invalidation) -> None:
        pass


class LeavesSoftIds(Incoherent):
    found_by = ("an_invalidated_tag_has_other_ids",)

    def invalidate_tag(self, tag: str, record: Invalidation) -> None:
        old = self.state(tag)
        super().invalidate_tag(tag, record)
        if old is not None and record.soft is None:
            new, end = self.states[tag]
            soft = slice(ID_BYTES, 2 * ID_BYTES)
            self.states[tag] = (new[:ID_BYTES] + old[soft] + new[2 * ID_BYTES :], end)


class UsesIdsAgain(Incoherent):
    """Goes round in a circle of two."""

    found_by = ("an_invalidated_tag_has_other_ids",)

    def __init__(self) -> None:
        super().__init__()
        self.ids = [token_bytes(12), token_bytes(12)]

    def new_state(self) -> bytes:
        self.ids.reverse()
        return (self.ids[0] * 2).ljust(44, b"\0")


class InvalidatesAllTags(Incoherent):
    found_by = ("an_invalidated_tag_has_other_ids",)

    async def invalidate(self, record: Invalidation, /) -> None:
        await super().invalidate(replace(record, tags=tuple(self.states)))


class LeavesTheEpoch(Incoherent):
    found_by = ("tag_epoch_changes_with_every_tag",)

    def shake(self, record: Invalidation) -> None:
        pass


class ShakesForKeys(Incoherent):
    found_by = ("tag_epoch_changes_with_every_tag",)

    def shake(self, record: Invalidation) -> None:
        super().shake(replace(record, tags=("t",)))


class LeavesTheEpochWhenItBlocks(Incoherent):
    found_by = ("tag_epoch_changes_with_every_tag",)

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        epoch = self.states.get(TAG_EPOCH)
        await super().block(record, token, seconds, renewing=renewing)
        if epoch is not None:
            self.states[TAG_EPOCH] = epoch


class IsNeverSoft(Incoherent):
    found_by = (
        "a_soft_invalidation_leaves_a_stale_entry",
        "a_soft_invalidation_makes_stale_what_a_tag_has",
        "what_is_soft_without_a_window_is_never_served",
    )

    async def invalidate(self, record: Invalidation, /) -> None:
        await super().invalidate(replace(record, soft=None))


class TakesNoWindowForAShortOne(Incoherent):
    found_by = ("what_is_soft_without_a_window_is_never_served",)

    async def invalidate(self, record: Invalidation, /) -> None:
        shortest = replace(record, soft=0.001) if record.soft == 0 else record
        await super().invalidate(shortest)


class LeavesTheIdOfStaleEntries(Incoherent):
    """So that a load from before it may still be stored."""

    found_by = ("a_soft_invalidation_leaves_a_stale_entry",)

    def invalidate_key(self, key: str, record: Invalidation) -> None:
        if record.soft is None:
            super().invalidate_key(key, record)


class LeavesTheTimesOfStaleEntries(Incoherent):
    found_by = ("a_soft_invalidation_leaves_a_stale_entry",)

    def invalidate_key(self, key: str, record: Invalidation) -> None:
        if record.soft is None:
            super().invalidate_key(key, record)
        elif key in self.held:
            held, end = self.held[key]
            self.held[key] = (held[:6] + record.id + held[22:], end)


class LeavesMarksWhenSoft(Incoherent):
    found_by = ("a_soft_invalidation_leaves_a_stale_entry",)

    async def invalidate(self, record: Invalidation, /) -> None:
        marks = dict(self.marks)
        await super().invalidate(record)
        if record.soft is not None:
            self.marks = marks


class LeavesLeasesWhenSoft(Incoherent):
    found_by = ("a_soft_invalidation_leaves_no_lease",)

    def invalidate_key(self, key: str, record: Invalidation) -> None:
        held = self.held.get(key)
        super().invalidate_key(key, record)
        if record.soft is not None and held is not None and held[0].startswith(b"L"):
            self.held[key] = held


class LeavesStaleEntriesTheirTime(Incoherent):
    found_by = ("a_stale_entry_ends",)

    def invalidate_key(self, key: str, record: Invalidation) -> None:
        end = self.held.get(key, (b"", 0.0))[1]
        super().invalidate_key(key, record)
        if key in self.held:
            self.held[key] = (self.held[key][0], end)


class ProlongsStaleEntries(Incoherent):
    found_by = ("a_stale_entry_ends",)

    def invalidate_key(self, key: str, record: Invalidation) -> None:
        super().invalidate_key(key, record)
        if key in self.held:
            self.put(self.held, key, self.held[key][0], record.soft or 0.0)


class RemembersAllSoftIds(Incoherent):
    """What was stale once is stale again."""

    found_by = ("a_soft_invalidation_makes_stale_what_a_tag_has",)

    def invalidate_tag(self, tag: str, record: Invalidation) -> None:
        old = self.state(tag)
        super().invalidate_tag(tag, record)
        if old is not None and record.soft is not None and any(old[2 * ID_BYTES : 3 * ID_BYTES]):
            new, end = self.states[tag]
            softened = slice(2 * ID_BYTES, 3 * ID_BYTES)
            self.states[tag] = (new[: 2 * ID_BYTES] + old[softened] + new[3 * ID_BYTES :], end)


class TakesUnderABlock(Incoherent):
    found_by = ("nothing_is_stored_under_a_block",)

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        if instead_of is not None and instead_of == self.content(key):
            self.blocks.clear()
        return await super().take(key, token, seconds, instead_of=instead_of)


class SeizesBlocks(Incoherent):
    found_by = (
        "nothing_is_stored_under_a_block",
        "an_invalidation_leaves_a_block",
        "a_block_ends_with_the_last_who_blocks",
    )

    async def seize(self, key: str, token: bytes, seconds: float, /) -> bool:
        self.blocks.pop(("key", key), None)
        return await super().seize(key, token, seconds)


class EnsuresBlockedTags(Incoherent):
    found_by = ("nothing_is_stored_under_a_block",)

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        for tag in tags:
            self.blocks.pop(("tag", tag), None)
        return await super().ensure(tags, seconds)


class BlocksOnlyTheEntry(Incoherent):
    found_by = ("a_block_removes_what_is_there",)

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        marks = dict(self.marks)
        await super().block(record, token, seconds, renewing=renewing)
        self.marks = marks


class InvalidatesBlocks(Incoherent):
    found_by = ("an_invalidation_leaves_a_block",)

    async def invalidate(self, record: Invalidation, /) -> None:
        self.blocks.clear()
        await super().invalidate(record)


class KnowsOneBlock(Incoherent):
    """Whoever ends first ends it for all."""

    found_by = ("a_block_ends_with_the_last_who_blocks",)

    async def unblock(self, record: Invalidation, token: bytes, /) -> None:
        self.blocks.clear()
        await super().unblock(record, token)


class BlocksForEver(Incoherent):
    found_by = ("a_block_ends_by_itself", "a_block_ends_with_the_last_who_blocks")

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        await super().block(record, token, inf, renewing=renewing)

    async def unblock(self, record: Invalidation, token: bytes, /) -> None:
        await self.invalidate(record)


class RenewsNoBlocks(Incoherent):
    found_by = ("a_block_ends_by_itself",)

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        if not renewing:
            await super().block(record, token, seconds)


class UnblocksAndLeaves(Incoherent):
    found_by = ("the_end_of_a_block_invalidates",)

    async def unblock(self, record: Invalidation, token: bytes, /) -> None:
        held = dict(self.held)
        await super().unblock(record, token)
        self.held = held


class ProvesFirst(Incoherent):
    found_by = ("a_gap_comes_before_the_first_proof",)

    async def listen(self, listener: Listener, bound: float, /) -> None:
        listener.prove(SystemClock.monotonic() + bound)
        await super().listen(listener, bound)


class TellsOthersOnly(Incoherent):
    found_by = (
        "all_are_told_of_what_is_invalidated",
        "all_are_told_of_what_is_put",
        "all_are_told_of_blocks",
        "a_proof_comes_after_what_it_is_about",
        "nothing_is_told_after_the_end",
    )

    def tell(self, record: Invalidation) -> None:
        pass


class TellsOfKeysOnly(Incoherent):
    found_by = ("all_are_told_of_what_is_invalidated",)

    def tell(self, record: Invalidation) -> None:
        super().tell(Invalidation(record.id, record.keys))


class TellsOfWhatIsStoredOnly(Incoherent):
    found_by = ("all_are_told_of_what_is_put",)

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
        told = tell if self.compares(key, fence) else None
        return await super().commit(
            key, frame, seconds, fence=fence, mark=mark, tags=tags, tell=told
        )


class TellsOfRenewals(Incoherent):
    found_by = ("all_are_told_of_blocks",)

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        await super().block(record, token, seconds)


class TellsLater(Incoherent):
    """Proves meanwhile what it has not told."""

    found_by = ("a_proof_comes_after_what_it_is_about",)

    def tell(self, record: Invalidation) -> None:
        asyncio.get_running_loop().call_later(0.25, super().tell, record)


class ProvesTooMuch(Incoherent):
    found_by = ("a_proof_is_good_for_the_bound",)

    async def listen(self, listener: Listener, bound: float, /) -> None:
        await super().listen(listener, 2 * bound)


class ProvesOnce(Incoherent):
    found_by = ("a_proof_is_good_for_the_bound", "a_gap_comes_before_the_first_proof")

    async def listen(self, listener: Listener, bound: float, /) -> None:
        listener.gap()
        listener.prove(SystemClock.monotonic() + bound)
        await asyncio.Event().wait()


class TellsForEver(Incoherent):
    found_by = ("nothing_is_told_after_the_end",)

    async def listen(self, listener: Listener, bound: float, /) -> None:
        try:
            await super().listen(listener, bound)
        finally:
            self.listeners.append(listener)


class WakesNobody(Incoherent):
    found_by = ("the_end_of_a_load_wakes_who_waits",)

    def wake(self, key: str) -> None:
        pass


class WakesForWhatIsStored(Incoherent):
    found_by = ("the_end_of_a_load_wakes_who_waits",)

    async def release(self, key: str, token: bytes, /) -> None:
        self.held.pop(key, None)


class WakesWhoNeedNotWait(Incoherent):
    found_by = ("who_need_not_wait_is_told_so",)

    async def await_fill(self, key: str, held: bytes, /) -> Content:
        self.awaited.add(key)
        return await super().await_fill(key, held)


class SaysOnlyThatItWaits(Incoherent):
    found_by = ("who_need_not_wait_is_told_so", "without_a_listener_one_may_wait")

    async def await_fill(self, key: str, held: bytes, /) -> Content:
        await super().await_fill(key, held)
        return held


class ScansTheFirst(Incoherent):
    found_by = ("scan_finds_the_keys_of_a_glob",)

    async def scan(self, pattern: str, /) -> AsyncIterator[list[str]]:
        async for batch in super().scan(pattern):
            yield batch
            return


class ScansPrefixes(Incoherent):
    found_by = ("scan_finds_the_keys_of_a_glob",)

    async def scan(self, pattern: str, /) -> AsyncIterator[list[str]]:
        async for batch in super().scan(pattern.partition(":")[0] + "*"):
            yield batch


class HasManySecrets(Incoherent):
    found_by = ("the_secret_is_shared",)

    async def secret(self) -> bytes:
        await self.turn()
        return token_bytes(32)


INCOHERENT: tuple[type[Incoherent], ...] = tuple(Incoherent.__subclasses__())
