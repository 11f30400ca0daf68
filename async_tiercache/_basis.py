"""The basis: what a value rests on, as it was when its making began.

The ledger makes them and says which still hold.
"""

from array import array
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from math import inf
from typing import Final, NamedTuple

from async_tiercache.abc import NAMESPACE, TAG_EPOCH

STRIPES: Final = 4096
"""Keys share this many generations, and tags as many; two that share one cost a refill."""

_NO_TAGS: Final[Mapping[str, int]] = {}


class Epoch:
    """A span in which one process has heard of no invalidation of a tag, or of everything.

    A hit looks at no more than the epoch under which its entry was checked last: that one knows by
    itself whether it is the present one, so nothing has to be compared with the ledger's.

    Attributes:
        deadline: Until when that may be served, monotonic; in the past once the span is over.
        over: `True` once it is. Until then `False` while loaders are at work, in which memory
            answers nothing, and `None` while there is none, which is what code asks for fastest.
    """

    __slots__ = ("deadline", "over")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.over: bool | None = None

    def next(self) -> "Epoch":
        """Let nothing be served any more that was checked under it; return the one after it."""
        after = Epoch(self.deadline)
        after.over = self.over
        self.end()
        return after

    def end(self) -> None:
        """Let nothing be served any more that was checked under it."""
        self.deadline, self.over = -inf, True


NO_EPOCH: Final = Epoch(-inf)
"""That of an entry which no ledger has checked."""
NO_EPOCH.end()


class Basis:
    """What a value rests on: that nothing has happened to its key and tags since it was begun.

    Attributes:
        key: The key's text.
        declared: The tags that it must stand under.
        tags: Each tag with its generation when it was first relied upon.
        open: Whether its loader may name more tags at its end.
        fresh_until: Until when all that it was made from is fresh, by the remote tier's clock.
        sound: Whether it may be kept at all; not if it was made from what is stale.
    """

    __slots__ = (
        "_pairs",
        "base",
        "declared",
        "fresh_until",
        "generation",
        "key",
        "open",
        "sound",
        "tags",
        "turn",
    )

    def __init__(
        self,
        key: str,
        declared: tuple[str, ...],
        base: int,
        generation: int,
        turn: int,
    ) -> None:
        self.key = key
        self.declared = declared
        self.base = base
        self.generation = generation
        self.turn = turn
        self.open = False
        # Most have no tags and need no pairs, and a dict for each would cost more than the rest.
        self.tags = _NO_TAGS
        self._pairs: dict[str, bytes] | None = None
        self.fresh_until = inf
        self.sound = True

    @property
    def pairs(self) -> dict[str, bytes]:
        """Of each tag, the ids that L2 had for it when it was first relied upon."""
        if self._pairs is None:
            self._pairs = {}
        return self._pairs

    def absorb(self, part: "Basis") -> None:
        """Rest on what a part rests on, too.

        Two different ids of one tag tell that one of them has been replaced already.
        """
        self.base = min(self.base, part.base)
        unproven = part.tags.keys() - part.pairs.keys() - self.pairs.keys()
        tags = {tag: min(mark, self.tags.get(tag, mark)) for tag, mark in part.tags.items()}
        self.tags = {**self.tags, **tags}
        for tag, pair in part.pairs.items():
            # The epoch says whether tags that are named late are those from before a load; the
            # part has compared its own.
            if tag != TAG_EPOCH and self.pairs.setdefault(tag, pair) != pair:
                self.sound = False
        if unproven:
            # Ids that another part lends later may be from after what this one was made from.
            self.pairs[NAMESPACE] = b""
        self.limit(part.fresh_until, sound=part.sound)

    def narrow(self, tags: AbstractSet[str]) -> None:
        """Rest on no other tags than these."""
        dropped = self.tags.keys() - tags
        self.tags = {tag: mark for tag, mark in self.tags.items() if tag in tags}
        self._pairs = {tag: pair for tag, pair in self.pairs.items() if tag not in dropped}

    def limit(self, fresh_until: float, *, sound: bool) -> None:
        """Be fresh no longer than a part, and not at all if that is not sound."""
        self.fresh_until = min(self.fresh_until, fresh_until)
        self.sound = self.sound and sound


class Moment(NamedTuple):
    """What the generations were at one moment, whatever has happened since.

    Attributes:
        base: That of everything.
        turn: Grew with each tag that was invalidated.
        generations: Those of keys.
        tag_generations: Those of tags.
    """

    base: int
    turn: int
    generations: "array[int]"
    tag_generations: "array[int]"

    def basis(
        self, key: str, declared: tuple[str, ...], tags: Collection[str], *, opened: bool
    ) -> Basis:
        """Return what a value rests on whose making began then.

        Args:
            key: The key's text.
            declared: The tags that it must stand under.
            tags: These, and those that its loader has named before.
            opened: Whether its loader may name more at its end.
        """
        generation = self.generations[hash(key) % STRIPES]
        basis = Basis(key, declared, self.base, generation, self.turn)
        basis.open = opened
        if tags:
            generations = self.tag_generations
            basis.tags = {tag: generations[hash(tag) % STRIPES] for tag in tags}
        return basis
