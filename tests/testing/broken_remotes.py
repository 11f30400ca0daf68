"""Remotes that each break a promise, with the tests of the contract that find out."""

import asyncio
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import ClassVar

from async_tiercache.abc import Invalidation, Reading
from async_tiercache.errors import TierError, TierRefusedError
from tests.testing.remotes import DictRemote, Table


class Broken(DictRemote):
    """Breaks a promise.

    Attributes:
        found_by: The tests that must fail, without their ``test_``.
    """

    found_by: ClassVar[tuple[str, ...]] = ()


class AnswersInAnyOrder(Broken):
    found_by = ("get_many_answers_in_the_order_of_the_keys",)

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        return await super().get_many(sorted(keys), tags)


class SharesAnswers(Broken):
    found_by = ("concurrent_reads_have_their_own_answers",)
    answer: Reading

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        self.answer = await super().get_many(keys, tags)
        await self.turn()
        return self.answer


class CutsLargeFrames(Broken):
    found_by = ("a_frame_is_kept_byte_by_byte",)

    def put(self, table: Table, key: str, what: bytes, life: float) -> None:
        super().put(table, key, what[:65536], life)


class LeasesNothing(Broken):
    found_by = ("take_leases_a_key_that_holds_nothing",)

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        return None


class LeasesTwice(Broken):
    """Looks, and puts a turn later."""

    found_by = ("take_is_won_by_one",)

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        held = self.look(self.held, key)
        await self.turn()
        if held in {None, token, instead_of}:
            self.put(self.held, key, token, seconds)
            return None
        return held


class TakesWhatIsThere(Broken):
    found_by = ("take_returns_what_a_key_holds",)

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        await self.seize(key, token, seconds)
        return None


class KnowsNotItsOwnLease(Broken):
    found_by = ("take_repeated_finds_its_own_lease",)

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        mine = self.look(self.held, key) == token
        return token if mine else await super().take(key, token, seconds, instead_of=instead_of)


class LeavesDeadBytes(Broken):
    found_by = ("take_replaces_the_bytes_it_was_told",)

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        return await super().take(key, token, seconds)


class ReplacesWhateverIsThere(Broken):
    found_by = ("take_leaves_what_has_changed_meanwhile",)

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        if instead_of is not None:
            instead_of = self.look(self.held, key)
        return await super().take(key, token, seconds, instead_of=instead_of)


class SeizesFreeKeysOnly(Broken):
    found_by = ("seize_replaces_whatever_is_there",)

    async def seize(self, key: str, token: bytes, seconds: float, /) -> bool:
        return await self.take(key, token, seconds) is None


class KeepsForEver(Broken):
    found_by = ("a_lease_ends_by_itself", "a_mark_ends_by_itself")

    def put(self, table: Table, key: str, what: bytes, life: float) -> None:
        super().put(table, key, what, inf)


class MarksForAll(Broken):
    found_by = ("mark_is_won_by_one",)

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        await super().mark(key, token, seconds)
        return True


class KnowsNotItsOwnMark(Broken):
    found_by = ("mark_repeated_finds_its_own_mark",)

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        mine = self.look(self.marks, key) == token
        return not mine and await super().mark(key, token, seconds)


class RenewsInNameOnly(Broken):
    found_by = ("renew_prolongs_our_lease", "renew_prolongs_our_mark")

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        return token in {self.look(self.held, key), self.look(self.marks, key)}


class RenewsLeasesOnly(Broken):
    found_by = ("renew_prolongs_our_mark",)

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        mine = self.look(self.held, key) == token
        return mine and await super().renew(key, token, seconds)


class SaysYesToForeignTokens(Broken):
    found_by = ("renew_says_no_to_what_is_not_ours",)

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        await super().renew(key, token, seconds)
        return True


class RenewsForeignTokens(Broken):
    found_by = ("renew_gives_no_time_to_what_is_not_ours",)

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        for table in (self.held, self.marks):
            held = self.look(table, key)
            if held is not None:
                self.put(table, key, held, seconds)
        return await super().renew(key, token, seconds)


class ReleasesNothing(Broken):
    found_by = ("release_removes_our_lease", "release_removes_our_mark_and_leaves_the_entry")

    async def release(self, key: str, token: bytes, /) -> None:
        await self.turn()


class ReleasesForeignTokens(Broken):
    """Deletes what stands there, whoever put it."""

    found_by = (
        "release_leaves_what_is_not_ours",
        "release_removes_our_mark_and_leaves_the_entry",
    )

    async def release(self, key: str, token: bytes, /) -> None:
        self.held.pop(key, None)
        self.marks.pop(key, None)


class CommitsNothing(Broken):
    found_by = ("commit_replaces_our_lease", "commit_replaces_the_entry_that_was_refreshed")

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
        return self.compares(key, fence)


class LeavesItsMark(Broken):
    found_by = ("commit_replaces_the_entry_that_was_refreshed",)

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
        return await super().commit(key, frame, seconds, fence=fence)


class RemovesForeignMarks(Broken):
    found_by = ("commit_is_refused_when_our_mark_is_gone",)

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
        if mark is not None:
            mark = self.look(self.marks, key)
        return await super().commit(key, frame, seconds, fence=fence, mark=mark)


class ReleasesWhenRefused(Broken):
    """Takes its mark away although the commit was refused."""

    found_by = ("commit_is_refused_when_the_entry_is_another",)

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
        self.marks.pop(key, None)
        return await super().commit(key, frame, seconds, fence=fence)


class CommitsUnconditionally(Broken):
    found_by = (
        "commit_is_refused_when_our_lease_is_gone",
        "commit_is_refused_when_the_entry_is_another",
        "commit_happens_once",
        "commit_after_an_invalidation_is_refused",
    )

    def compares(self, key: str, fence: bytes) -> bool:
        return True


class TakesNothingForItsFence(Broken):
    """Stores where the fence is gone: after an invalidation, too."""

    found_by = (
        "commit_is_refused_when_our_lease_is_gone",
        "commit_after_an_invalidation_is_refused",
    )

    def compares(self, key: str, fence: bytes) -> bool:
        return self.look(self.held, key) is None or super().compares(key, fence)


class ForgetsItsFrame(Broken):
    """Takes what its first try has stored for another's."""

    found_by = ("commit_repeated_finds_its_own_frame",)

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
        used = not self.compares(key, fence)
        return await super().commit(key, frame, seconds, fence=fence, mark=mark) and not used


class ForgetsItsStamp(Broken):
    """Takes what its first try has written for another's."""

    found_by = ("stamp_repeated_finds_its_own_stamp",)

    async def stamp(
        self,
        key: str,
        stamp: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
    ) -> bool:
        used = not self.compares(key, fence)
        return await super().stamp(key, stamp, seconds, fence=fence, mark=mark) and not used


class CommitsInTwoSteps(Broken):
    """Compares, and stores a turn later."""

    found_by = ("commit_of_many_stores_one",)

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
        compared = self.compares(key, fence)
        await self.turn()
        if compared:
            self.put(self.held, key, frame, seconds)
        return compared


class IsCutShort(Broken):
    """Stores, and removes the mark a turn later, if it is let."""

    found_by = ("a_cancelled_caller_cuts_no_command_short",)

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
        stored = await super().commit(key, frame, seconds, fence=fence)
        await self.turn()
        return stored and (mark is None or self.marks.pop(key, None) is not None)


class StampsNothing(Broken):
    found_by = ("stamp_renames_the_entry_and_leaves_its_value", "stamp_gives_the_entry_its_time")

    async def stamp(
        self,
        key: str,
        stamp: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
    ) -> bool:
        return self.compares(key, fence)


class StampsForeignEntries(Broken):
    """Looks at the fence after it has written."""

    found_by = ("stamp_is_refused_when_the_entry_is_another", "stamp_happens_once")

    async def stamp(
        self,
        key: str,
        stamp: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
    ) -> bool:
        compares = self.compares(key, fence)
        held = self.look(self.held, key)
        if held is not None:
            self.put(self.held, key, held[:6] + stamp + held[6 + len(stamp) :], seconds)
        return compares


class StampsAndRemovesForeignMarks(Broken):
    found_by = ("stamp_is_refused_when_our_mark_is_gone",)

    async def stamp(
        self,
        key: str,
        stamp: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
    ) -> bool:
        if mark is not None:
            mark = self.look(self.marks, key)
        return await super().stamp(key, stamp, seconds, fence=fence, mark=mark)


class MixesUpReplies(Broken):
    """Leaves the reply of a cancelled read to the next one."""

    found_by = ("a_cancelled_read_takes_no_answer_from_others",)

    def __init__(self) -> None:
        super().__init__()
        self.replies: deque[Reading] = deque()

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        self.replies.append(Reading([self.look(self.held, key) for key in keys], []))
        await self.turn()
        return self.replies.popleft()


class LeavesMarks(Broken):
    found_by = ("invalidate_removes_entries_leases_and_marks",)

    async def invalidate(self, record: Invalidation, /) -> None:
        for key in record.keys:
            self.held.pop(key, None)


class LeavesLeases(Broken):
    found_by = ("invalidate_removes_entries_leases_and_marks",)

    async def invalidate(self, record: Invalidation, /) -> None:
        free = [
            key for key in record.keys if not (self.look(self.held, key) or b"").startswith(b"L")
        ]
        await super().invalidate(Invalidation(record.id, tuple(free)))


class RemovesTooMuch(Broken):
    found_by = ("invalidate_removes_entries_leases_and_marks",)

    async def invalidate(self, record: Invalidation, /) -> None:
        self.held.clear()
        self.marks.clear()


class CountsMilliseconds(Broken):
    found_by = ("now_is_the_time_since_the_epoch",)

    def now(self) -> float:
        return super().now() * 1000


class ProbesAKey(Broken):
    found_by = ("a_probe_changes_nothing",)

    async def probe(self) -> None:
        self.put(self.held, "", b"", inf)


class OutOfReach(DictRemote):
    """A tier that is away, and says so."""

    async def turn(self) -> None:
        raise TierError("away", tier="l2")


class RaisesItsOwnError(Broken):
    found_by = ("out_of_reach_every_call_raises_tier_error",)

    async def turn(self) -> None:
        raise ConnectionResetError


class SaysRefused(Broken):
    """The cache would believe that the tier answers."""

    found_by = ("out_of_reach_every_call_raises_tier_error",)

    async def turn(self) -> None:
        raise TierRefusedError("away", tier="l2")


class Hangs(Broken):
    found_by = ("out_of_reach_every_call_raises_tier_error",)

    async def turn(self) -> None:
        await asyncio.Event().wait()


BROKEN: tuple[type[Broken], ...] = tuple(Broken.__subclasses__())
