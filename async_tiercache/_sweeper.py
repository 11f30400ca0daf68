"""The sweeper: invalidates the keys that match a pattern, as far as they can be found.

L2 is scanned in batches, each of which is invalidated like any other keys. All servers are told of
the pattern before and after, and empty their L1. A key that is written while the scan runs may be
left out: who needs more gives such keys a tag.
"""

import re
from collections.abc import Callable, Iterable
from secrets import token_bytes

from async_tiercache._guard import Guard
from async_tiercache._invalidator import Invalidator
from async_tiercache._ledger import Ledger, Pattern
from async_tiercache._recovery import Recovery
from async_tiercache._report import Report
from async_tiercache._tenancy import owned
from async_tiercache.abc import Invalidation, Remote
from async_tiercache.errors import TierError, TierPartError, UnkeyableError

Progress = Callable[[int], None]
"""Is told how many keys have been invalidated so far."""

_BAD = re.compile(r"[{}\\\x00-\x1f\ud800-\udfff]")
_LITERAL = re.compile(r"[\[\]^?*]")


class Sweeper:
    """Invalidates by pattern.

    Args:
        remote: The tier that is scanned, or `None` if there is none.
        guard: The guard around it.
        ledger: Keeps patterns that could not be carried out.
        invalidator: Invalidates the keys that are found.
        forget: Lets this process forget what a record names.
        here: Returns the keys that this process holds or loads.
        recovery: Repeats what L2 has not confirmed.
    """

    def __init__(
        self,
        *,
        remote: Remote | None,
        guard: Guard,
        ledger: Ledger,
        invalidator: Invalidator,
        forget: Callable[[Invalidation], None],
        here: Callable[[], Iterable[str]],
        recovery: Recovery,
    ) -> None:
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._invalidator = invalidator
        self._forget = forget
        self._here = here
        self._recovery = recovery
        recovery.sweep = self.repeat

    async def sweep(self, pattern: str, prefix: str, progress: Progress | None) -> Report:
        """Invalidate the keys that match.

        Args:
            pattern: The pattern, checked.
            prefix: What the keys of the calling tenant begin with.
            progress: Is told how many keys have been invalidated so far.
        """
        matches = matcher(prefix, pattern)
        if self._remote is None:
            await self._invalidator.invalidate(key for key in self._here() if matches(key))
            return self._invalidator.confirmed()
        held: Pattern = prefix, pattern
        # Here at once, whether L2 is asked or not.
        self._forget(_record(held))
        call_id = self._ledger.hold_pattern(held, matches)
        try:
            await self._guard.call(self._carry_out, self._remote, held, progress)
        except BaseException as error:
            # Also when the caller is cancelled, or `progress` raises.
            self._ledger.owe_pattern(held)
            self._recovery.wake()
            if not isinstance(error, TierError):
                raise
            return Report("queued")
        self._ledger.confirm_pattern(held, call_id)
        return Report("done")

    async def repeat(self, pattern: Pattern) -> None:
        """Carry a pattern out that a call could not.

        Raises:
            TierError: L2 did not answer.
        """
        assert self._remote is not None
        call_id = self._ledger.hold_pattern(pattern, matcher(*pattern))
        await self._carry_out(self._remote, pattern, None)
        self._ledger.confirm_pattern(pattern, call_id)

    async def _carry_out(self, remote: Remote, held: Pattern, progress: Progress | None) -> None:
        (prefix, pattern), matches, count = held, matcher(*held), 0
        await self._tell(remote, _record(held))
        # To Redis a ? is one byte, and a character may have more; `matches` has the last word.
        glob = _LITERAL.sub(_escaped, prefix) + glob_of(pattern).replace("?", "?*")
        async for batch in remote.scan(glob):
            keys = [key for key in batch if matches(key)]
            report = await self._invalidator.invalidate(keys)
            if report.l2 == "queued":
                # The guard has been told why; L2 may well answer reads.
                raise TierPartError("L2 did not confirm a part of a pattern", tier="l2")
            count += len(keys)
            if progress is not None:
                progress(count)
        await self._tell(remote, _record(held))

    async def _tell(self, remote: Remote, record: Invalidation) -> None:
        self._forget(record)
        await remote.invalidate(record)
        self._forget(record)


def checked_pattern(pattern: object) -> str:
    """Return a pattern over keys: ``*`` stands for anything, ``?`` for one character.

    Raises:
        UnkeyableError: It is none.
    """
    if not isinstance(pattern, str) or not pattern:
        raise UnkeyableError(
            f"{pattern!r} is no pattern", hint='Write it like a key: "user:*:profile".'
        )
    bad = _BAD.search(pattern)
    if bad is not None:
        raise UnkeyableError(
            f"{bad[0]!r} cannot stand in the pattern {pattern!r}",
            hint="* stands for anything and ? for one character; all else stands for itself.",
        )
    return str.__str__(pattern)


def glob_of(pattern: str) -> str:
    """Return a pattern as Redis spells it, to which brackets mean something."""
    return re.sub(r"[\[\]^]", _escaped, pattern)


def matcher(prefix: str, pattern: str) -> Callable[[str], bool]:
    """Return what tells whether a key is a tenant's and matches."""
    parts = {"*": ".*", "?": "."}
    source = "".join(parts.get(each) or re.escape(each) for each in pattern)
    full = re.compile(re.escape(prefix) + source, re.DOTALL).fullmatch
    return lambda key: full(key) is not None and owned(key, prefix)


def _escaped(found: "re.Match[str]") -> str:
    return f"\\{found[0]}"


def _record(held: Pattern) -> Invalidation:
    return Invalidation(token_bytes(16), pattern="".join(held))
