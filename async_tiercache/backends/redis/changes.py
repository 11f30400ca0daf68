"""Changes: what a record says is carried out by scripts, each where its keys and tags are.

On one server a script changes hundreds of names, and tells all who listen in the same step. In a
Cluster there is one for each key and tag, and each tells of its own part.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from secrets import token_bytes
from typing import Any, Final, NamedTuple

from redis.exceptions import TryAgainError

from async_tiercache._entry import Header
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, Invalidation
from async_tiercache.backends.redis import evidence, messages, scripts
from async_tiercache.backends.redis.names import Names
from async_tiercache.backends.redis.route import Route
from async_tiercache.codecs import frame
from async_tiercache.tags import NEVER_SERVED, pack_until

MAX_NAMES: Final = messages.MAX_NAMES // 2
"""Keys and tags of one script."""


class Change(NamedTuple):
    """What is done to the keys and tags of a record.

    Attributes:
        script: What does it.
        arguments: What the script is told beside what it is done to.
        bytes_by_tag: Whether it is told random bytes for each tag.
        telling: Whether there is a message about it.
        shaking: Whether the state of TAG_EPOCH is replaced where there are tags.
    """

    script: str
    arguments: tuple[Any, ...]
    bytes_by_tag: bool = True
    telling: bool = True
    shaking: bool = True


class Outcome(NamedTuple):
    """What became of a part of a record; `None` for no error."""

    part: Invalidation
    error: BaseException | None


def invalidation(record: Invalidation, now: float) -> Change:
    """Return what an invalidation does.

    Args:
        record: What is invalidated.
        now: The server's time, in seconds since the epoch.
    """
    if record.soft is None:
        return Change(evidence.INVALIDATE, ("", 0, b""))
    seconds = messages.soft_seconds(record.soft)
    # No window is no instant either, which a reader's clock might not have reached.
    until = now + seconds if seconds else NEVER_SERVED
    times = Header(record.id, 0.0, min(now, until), until, 0.0, b"")
    life = max(1, round(seconds * 1000))
    arguments = (frame.stamp(times), life, pack_until(until))
    return Change(evidence.INVALIDATE, arguments)


def block(token: bytes, milliseconds: int, *, renewing: bool) -> Change:
    """Return what a block does."""
    arguments = (token, milliseconds, 0 if renewing else 1)
    return Change(evidence.BLOCK, arguments, bytes_by_tag=False, shaking=not renewing)


def unblock(token: bytes) -> Change:
    """Return what the end of a block does."""
    return Change(evidence.UNBLOCK, (token,))


async def carry_out(
    change: Change, record: Invalidation, route: Route, names: Names
) -> list[Outcome]:
    """Do it to all keys and tags, and return what became of each part."""
    if TAG_EPOCH in record.tags:
        record = record.without((), (TAG_EPOCH,))
    if route.whole:
        calls = [_Call(change, part, names) for part in _chunks(record)]
        for call in calls:
            call.epoch = bool(change.shaking and call.part.tags)
        return await _all(calls, route)
    untagged = replace(record, tags=())
    keyed = [_Call(change, part, names) for part in _singles(untagged)]
    if not record.tags:
        return await _all(keyed, route)
    tagged = _all_tags(change, replace(record, keys=(), pattern=""), route, names)
    outcomes = await asyncio.gather(_all(keyed, route), tagged)
    return outcomes[0] + outcomes[1]


async def _all_tags(
    change: Change, record: Invalidation, route: Route, names: Names
) -> list[Outcome]:
    """Change the tags of a Cluster once the state of TAG_EPOCH is another."""
    if change.shaking:
        try:
            await _Epoch(names).run(route)
        except Exception as error:  # noqa: BLE001 - is told
            return [Outcome(record, error)]
    return await _all([_Call(change, part, names) for part in _singles(record)], route)


async def _all(calls: "list[_Call]", route: Route) -> list[Outcome]:
    results = await asyncio.gather(*(call.run(route) for call in calls), return_exceptions=True)
    return [
        Outcome(call.part, result if isinstance(result, BaseException) else None)
        for call, result in zip(calls, results, strict=True)
    ]


def _chunks(record: Invalidation) -> Iterator[Invalidation]:
    """Yield the parts of a record whose names are on one server; the pattern is of the last."""
    keys, tags = record.keys, record.tags
    while True:
        part = replace(record, tags=tags[:MAX_NAMES], pattern="")
        tags = tags[MAX_NAMES:]
        room = MAX_NAMES - len(part.tags)
        part = replace(part, keys=keys[:room])
        keys = keys[room:]
        if not keys and not tags:
            part = replace(part, pattern=record.pattern)
            if part:
                yield part
            return
        yield part


def _singles(record: Invalidation) -> Iterator[Invalidation]:
    """Yield a part for each key, each tag and the pattern."""
    nothing = replace(record, keys=(), tags=(), pattern="")
    for key in record.keys:
        yield replace(nothing, keys=(key,))
    for tag in record.tags:
        yield replace(nothing, tags=(tag,))
    if record.pattern:
        yield replace(nothing, pattern=record.pattern)


class _Call:
    """A script and the part of a record that it is about.

    Attributes:
        part: That part.
        epoch: Whether the state of TAG_EPOCH is replaced first, in the same step.
    """

    __slots__ = ("_change", "_names", "epoch", "part")

    def __init__(self, change: Change, part: Invalidation, names: Names) -> None:
        self._change = change
        self._names = names
        self.part = part
        self.epoch = False

    async def run(self, route: Route) -> None:
        """Run the script where the keys and tags are."""
        marks = [self._names.mark(key) for key in self.part.keys]
        try:
            await self._run(route, marks)
        except TryAgainError:
            # Their slot is on its way to another node, which has but one of them.
            for mark in marks:
                await route.submit("DEL", mark)
            await self._run(route, [])

    async def tell(self, route: Route, record: Invalidation, mark: str) -> None:
        """Tell of a record whose keys were changed by another script; a mark leads the way."""
        all_names = [mark, self._names.last] if route.whole else [mark]
        chance = token_bytes(evidence.MESSAGE_CHANCE_BYTES)
        given = (self._names.bus, chance, messages.encode(record), 0, 0, 1, b"")
        await scripts.run(route, self._change.script, all_names, *given, *self._change.arguments)

    async def _run(self, route: Route, marks: list[str]) -> None:
        change, part, names = self._change, self.part, self._names
        keys = [names.key(key) for key in part.keys]
        tags = [names.tag(tag) for tag in part.tags]
        all_names = [*keys, *tags, *marks]
        if self.epoch:
            all_names.append(names.tag(TAG_EPOCH))
        if route.whole or not all_names:
            all_names.append(names.last)
        given = (
            names.bus,
            token_bytes(evidence.MESSAGE_CHANCE_BYTES),
            messages.encode(part) if change.telling else b"",
            len(keys),
            len(tags),
            len(marks),
            _chance() if self.epoch else b"",
        )
        chances = [_chance() for _ in tags] if change.bytes_by_tag else []
        await scripts.run(route, change.script, all_names, *given, *change.arguments, *chances)


class _Epoch(_Call):
    """Replaces the state of TAG_EPOCH and tells nobody."""

    __slots__ = ()

    def __init__(self, names: Names) -> None:
        change = Change(evidence.INVALIDATE, ("", 0, b""), telling=False)
        super().__init__(change, Invalidation(b""), names)
        self.epoch = True


async def ensure(
    tags: list[str], milliseconds: int, route: Route, names: Names
) -> list[bytes | None]:
    """Give each tag that has no state a new one; return the states, `None` for a blocked one.

    Raises:
        RedisError: One of them could not be asked for.
    """

    def given(tag: str) -> tuple[bytes, Any]:
        return _chance(), "" if tag in {NAMESPACE, TAG_EPOCH} else milliseconds

    async def together(some: list[str]) -> list[bytes | None]:
        arguments = [each for tag in some for each in given(tag)]
        run = scripts.run(route, evidence.ENSURE, [names.tag(tag) for tag in some], *arguments)
        return [state or None for state in await run]

    size = MAX_NAMES if route.whole else 1
    parts = [tags[start : start + size] for start in range(0, len(tags), size)]
    states = await asyncio.gather(*map(together, parts))
    return [state for part in states for state in part]


async def tell(record: Invalidation, key: str, route: Route, names: Names) -> None:
    """Tell all listeners of a record, behind what was sent about a key just before.

    Raises:
        RedisError: They may not have been told.
    """
    call = _Call(Change(evidence.INVALIDATE, ("", 0, b"")), replace(record, keys=()), names)
    await call.tell(route, record, names.mark(key))


def _chance() -> bytes:
    return token_bytes(evidence.CHANCE_BYTES)
