"""A Redis in pure Python: what it holds, and what each command does to it, at once.

No method awaits. `_simulator` decides when a command comes, how often, and whether anybody is told.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from async_tiercache._entry import ENTRY_ID_BYTES
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, Clock, Invalidation
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET, STAMP_BYTES, STAMP_OFFSET, is_lease
from async_tiercache.tags import ID_BYTES, pack_until, state_of

Name = tuple[str, str]
"""The kind of a thing, and the text of the key or tag that it belongs to."""

_FOREVER: Final = float("inf")
_KEPT: Final = frozenset({NAMESPACE, TAG_EPOCH})
_TOKEN_BYTES: Final = 16
_DEADLINE_BYTES: Final = 13
_FLAG_SECONDS: Final = 2.0
_FRAME: Final = b"VT"
_NEVER: Final = pack_until(0.0)


class Terms(NamedTuple):
    """On which terms an entry is stored; see `abc.Remote.commit`."""

    seconds: float
    fence: bytes
    mark: bytes | None
    tags: tuple[str, ...]
    tell: Invalidation | None = None


class SimulatedServer:
    """What a Redis holds.

    Args:
        clock: Its time, by which everything expires.

    Attributes:
        held: Keys, marks, tags and flags, each with the time at which it expires.
        run: Names this run of the server; another after a restart.
        last: The id of the last message.
        publish: Is called with each message: an invalidation, or the key of which a load has ended.
    """

    def __init__(self, clock: Clock) -> None:
        self.held: dict[Name, tuple[bytes, float]] = {}
        self.run = 0
        self.last: bytes | None = None
        self.publish: Callable[[Invalidation | str], None] = _nobody
        self._clock = clock
        self._ids = itertools.count(1)

    # What happens to a server.

    def snapshot(self) -> tuple[dict[Name, tuple[bytes, float]], bytes | None]:
        """Return a copy of all that it holds."""
        return dict(self.held), self.last

    def restart(
        self, snapshot: tuple[dict[Name, tuple[bytes, float]], bytes | None] | None = None
    ) -> None:
        """Become another run, which holds nothing, or what an older copy held."""
        held, self.last = snapshot or ({}, None)
        self.held = dict(held)
        self.run += 1

    def names(self) -> list[Name]:
        """Return what may be evicted, in order."""
        return sorted(self.held)

    def evict(self, name: Name) -> None:
        """Forget a thing, as a server that is full does."""
        self.held.pop(name, None)

    # Commands.

    def time(self) -> float:
        """Return its time."""
        return self._clock.wall()

    def get(self, kind: str, text: str) -> bytes | None:
        """Return what is there, unless its time is over."""
        raw, until = self.held.get((kind, text), (None, 0.0))
        return raw if raw is not None and self._clock.wall() < until else None

    def get_many(
        self, keys: Sequence[str], tags: Sequence[str]
    ) -> tuple[list[bytes | None], list[bytes | None]]:
        """Return what keys and tags hold."""
        states = (self.get("tag", tag) for tag in tags)
        return (
            [self.get("key", key) for key in keys],
            [None if _is_block(state) else state for state in states],
        )

    def ensure(self, tags: Sequence[str], seconds: float) -> list[bytes | None]:
        """Give each tag that has no state a new one."""
        states: list[bytes | None] = []
        for tag in tags:
            raw = self.get("tag", tag)
            if _is_block(raw):
                states.append(None)
                continue
            if state_of(raw) is None:
                raw = self._new_state()
                self._put("tag", tag, raw, _FOREVER if tag in _KEPT else seconds)
            states.append(raw)
        return states

    def take(
        self, key: str, token: bytes, seconds: float, instead_of: bytes | None
    ) -> bytes | None:
        """Put a lease on a key that holds nothing, or exactly `instead_of`."""
        raw = self.get("key", key)
        if raw is not None and (raw not in {token, instead_of} or _is_block(raw)):
            return raw
        self._put("key", key, token, seconds)
        return None

    def seize(self, key: str, token: bytes, seconds: float) -> bool:
        """Put a lease in place of whatever the key holds, unless that is a block."""
        if _is_block(self.get("key", key)):
            return False
        self._put("key", key, token, seconds)
        return True

    def mark(self, key: str, token: bytes, seconds: float) -> bool:
        """Claim the refresh of an entry."""
        if self.get("mark", key) not in {None, token}:
            return False
        self._put("mark", key, token, seconds)
        return True

    def renew(self, key: str, token: bytes, seconds: float) -> bool:
        """Prolong a lease or mark."""
        for kind in ("key", "mark"):
            if self.get(kind, key) == token:
                self._put(kind, key, token, seconds)
                return True
        return False

    def release(self, key: str, token: bytes) -> None:
        """Remove a lease or mark, and wake who waits."""
        for kind in ("key", "mark"):
            if self.get(kind, key) == token:
                del self.held[kind, key]
        self._wake(key)

    def await_fill(self, key: str, held: bytes) -> bytes | None:
        """Return what the key holds, and note that somebody waits for its end if it is `held`."""
        raw = self.get("key", key)
        if raw == held:
            self._put("flag", key, b"1", _FLAG_SECONDS)
        return raw

    def commit(self, key: str, frame: bytes, terms: Terms) -> bool:
        """Store a frame if the key still holds what the fence names."""
        if terms.tell is not None:
            self._publish(terms.tell)
        if not self._holds(key, terms):
            self._wake(key)
            # A repeated command finds what its lost first try has put there.
            return self._compares(key, frame[ENTRY_ID_OFFSET:][:ENTRY_ID_BYTES])
        self._put("key", key, frame, terms.seconds)
        self._done(key, terms)
        return True

    def stamp(self, key: str, stamp: bytes, terms: Terms) -> bool:
        """Put a stamp over that of an entry."""
        raw = self.get("key", key)
        if raw is None or not self._holds(key, terms):
            return self._compares(key, stamp[:ENTRY_ID_BYTES])
        self._put("key", key, _stamped(raw, stamp), terms.seconds)
        self._done(key, terms)
        return True

    def invalidate(self, record: Invalidation, stamp: bytes, until: float) -> None:
        """Remove or soften what keys hold, give tags new states, and tell everybody.

        Args:
            record: What is no longer true.
            stamp: What is put over those of entries, if they are softened.
            until: When what is softened is dead.
        """
        self._renew_epoch(record.tags)
        for tag in record.tags:
            self._invalidate_tag(tag, None if record.soft is None else until)
        for key in record.keys:
            self.held.pop(("mark", key), None)
            raw = self.get("key", key)
            if _is_block(raw):
                continue
            if record.soft is not None and raw is not None and _is_frame(raw):
                expires = min(self.held["key", key][1], until)
                self.held["key", key] = _stamped(raw, stamp), expires
            else:
                self.held.pop(("key", key), None)
        self._publish(record)

    def block(self, record: Invalidation, token: bytes, seconds: float, *, renewing: bool) -> None:
        """Put a block on keys and tags."""
        self._renew_epoch(record.tags)
        for name in _names_of(record):
            blocks = self._blocks(name)
            blocks[token] = self._clock.wall() + seconds
            self._put_blocks(name, blocks)
            self.held.pop(("mark", name[1]), None)
        if not renewing:
            self._publish(record)

    def unblock(self, record: Invalidation, token: bytes) -> None:
        """End a block, and invalidate what it was on."""
        self._renew_epoch(record.tags)
        for name in _names_of(record):
            blocks = self._blocks(name)
            blocks.pop(token, None)
            self.held.pop(("mark", name[1]), None)
            self._put_blocks(name, blocks)
        self._publish(record)

    def scan(self, pattern: str) -> list[str]:
        """Return the texts of keys that match a glob."""
        matches = re.compile(_regex_of(pattern), re.DOTALL).fullmatch
        found = [text for kind, text in self.held if kind == "key" and matches(text)]
        return [text for text in found if self.get("key", text) is not None]

    def secret(self, candidate: bytes) -> bytes:
        """Keep a secret, if there is none, and return it."""
        return self.held.setdefault(("secret", ""), (candidate, _FOREVER))[0]

    def evidence(self, candidate: bytes) -> bytes | None:
        """Return the id of the last message; without one, keep a new id for the next time."""
        last = self.last
        if last is None:
            self.last = candidate
        return last

    # Parts of commands.

    def _put(self, kind: str, text: str, raw: bytes, seconds: float) -> None:
        self.held[kind, text] = raw, self._clock.wall() + seconds

    def _compares(self, key: str, fence: bytes) -> bool:
        raw = self.get("key", key)
        if raw is None:
            return False
        if is_lease(fence):
            return raw == fence
        return raw[ENTRY_ID_OFFSET : ENTRY_ID_OFFSET + len(fence)] == fence

    def _holds(self, key: str, terms: Terms) -> bool:
        """Return whether the fence, and the mark if there is one, are there still."""
        marked = terms.mark is None or self.get("mark", key) == terms.mark
        return marked and self._compares(key, terms.fence)

    def _done(self, key: str, terms: Terms) -> None:
        """Follow up on an entry that was stored: its mark, its tags, and who waits."""
        if terms.mark is not None:
            del self.held["mark", key]
        until = self._clock.wall() + terms.seconds
        for tag in terms.tags:
            raw = self.get("tag", tag)
            if raw is not None:
                self.held["tag", tag] = raw, max(until, self.held["tag", tag][1])
        self._wake(key)

    def _wake(self, key: str) -> None:
        if self.get("flag", key) is not None:
            del self.held["flag", key]
            self.publish(key)

    def _publish(self, record: Invalidation) -> None:
        self.last = record.id
        self.publish(record)

    def _new_id(self) -> bytes:
        return next(self._ids).to_bytes(ID_BYTES)

    def _new_state(self) -> bytes:
        return self._new_id() + self._new_id() + self._new_id() + _NEVER

    def _renew_epoch(self, tags: Sequence[str]) -> None:
        if tags:
            self._put("tag", TAG_EPOCH, self._new_state(), _FOREVER)

    def _invalidate_tag(self, tag: str, until: float | None) -> None:
        raw = self.get("tag", tag)
        if _is_block(raw):
            return
        state = state_of(raw)
        if until is None:
            raw = self._new_state()
        elif state is not None:
            soft = self._new_id()
            raw = state.hard + soft + state.soft + pack_until(until)
        if raw is not None and (state is not None or tag in _KEPT):
            expires = _FOREVER if tag in _KEPT else self.held["tag", tag][1]
            self.held["tag", tag] = raw, expires

    def _blocks(self, name: Name) -> dict[bytes, float]:
        """Return the blocks on a key or tag that have not ended, by their tokens."""
        raw = self.get(*name)
        if raw is None or not _is_block(raw):
            return {}
        size = _TOKEN_BYTES + _DEADLINE_BYTES
        blocks = {
            raw[at : at + _TOKEN_BYTES]: int(raw[at + _TOKEN_BYTES : at + size]) / 1000
            for at in range(1, len(raw), size)
        }
        now = self._clock.wall()
        return {token: end for token, end in blocks.items() if end > now}

    def _put_blocks(self, name: Name, blocks: dict[bytes, float]) -> None:
        if blocks:
            parts = (token + b"%013d" % round(end * 1000) for token, end in blocks.items())
            self.held[name] = b"B" + b"".join(parts), max(blocks.values())
        elif name[0] == "tag":
            self.held.pop(name, None)
            if name[1] in _KEPT:
                self._put(*name, self._new_state(), _FOREVER)
        else:
            self.held.pop(name, None)


def _nobody(_message: Invalidation | str) -> None:
    """Tell nobody."""


def _names_of(record: Invalidation) -> Iterator[Name]:
    yield from (("tag", tag) for tag in record.tags)
    yield from (("key", key) for key in record.keys)


def _is_block(raw: bytes | None) -> bool:
    whole = _TOKEN_BYTES + _DEADLINE_BYTES
    return raw is not None and raw[:1] == b"B" and len(raw) % whole == 1


def _is_frame(raw: bytes) -> bool:
    return raw.startswith(_FRAME) and len(raw) >= STAMP_OFFSET + STAMP_BYTES


def _stamped(raw: bytes, stamp: bytes) -> bytes:
    return raw[:STAMP_OFFSET] + stamp + raw[STAMP_OFFSET + len(stamp) :]


def _regex_of(glob: str) -> str:
    """Return a regular expression for a glob as Redis reads it."""
    parts: list[str] = []
    at = 0
    while at < len(glob):
        letter = glob[at]
        end = glob.find("]", at + 2)
        if letter == "\\" and at + 1 < len(glob):
            at += 1
            parts.append(re.escape(glob[at]))
        elif letter == "[" and end > 0:
            inner = glob[at + 1 : end]
            negated = inner.startswith("^")
            letters = re.escape(inner[negated:]).replace("\\-", "-")
            parts.append(f"[{'^' * negated}{letters}]")
            at = end
        else:
            parts.append({"*": ".*", "?": "."}.get(letter, re.escape(letter)))
        at += 1
    return "".join(parts)
