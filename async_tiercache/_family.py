"""The family: the keys of one decorated coroutine, and what they share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from async_tiercache._context import LoadContext
from async_tiercache._gatherer import Part
from async_tiercache._options import Limits
from async_tiercache._statistics import Counts
from async_tiercache.abc import Codec
from async_tiercache.errors import EncodeError

LoadOne: TypeAlias = Callable[[LoadContext], Awaitable[Any]]
"""Fetches the value from the source, with the arguments already bound."""

MANY_MISSES: Final = 4
"""After so many in a row the next is expected, and asks for a lease at once: a turn less."""

MAX_NAMED: Final = 10_000
"""Keys of a family whose result's tags are remembered."""


class Aliases:
    """Where the compiled call path of a function finds its slots, for one class of `self`.

    Attributes:
        slots: The slots, by the bare arguments.
        text: Makes the text of a key again, from the arguments that stand for it in there.
    """

    __slots__ = ("_group", "slots", "text")

    def __init__(self, slots: dict[Any, Any], text: Callable[[Any], str]) -> None:
        self.slots = slots
        self.text = text
        self._group: tuple[Family, Aliases] | None = None

    def group_of(self, family: "Family") -> "tuple[Family, Aliases]":
        """Return what the slots of a family share that are found here and have no tags."""
        group = self._group
        if group is None or group[0] is not family:
            group = self._group = (family, self)
        return group


Alias: TypeAlias = tuple[Aliases, Any]
"""A table of a compiled call path and the key under which it looks for a slot."""


@dataclass(slots=True, eq=False)
class Load:
    """How the value of one key is fetched from the source.

    Attributes:
        alone: Fetches it by itself.
        part: Fetches it together with the other keys of its call, instead.
        behind: Fetches it together with others when nobody waits for it, if that can be.
        tags: The tags that it must stand under.
        open: Whether the loader may name more.
        waits: Whether it may wait while somebody else loads the key; else it is abandoned then.
    """

    alone: LoadOne | None = None
    part: Part | None = None
    behind: Callable[[], Part | None] | None = None
    tags: tuple[str, ...] = ()
    open: bool = False
    waits: bool = True


@dataclass(slots=True, eq=False)
class Family:
    """The keys of one decorated coroutine.

    Attributes:
        name: The template, or module and qualified name.
        limits: The resolved policy.
        codec: Encodes and decodes the values.
        bound: Whether a load uses an object of its caller, so that it must end with that caller:
            it runs in the caller's own task, and never in the background.
        counts: What the paths count.
        named: By key, the tags that its loader has named last; they are asked for before the next
            load.
        misses_in_a_row: How often flights have found nothing in L2 since one has found something.
        group: What the slots of its entries share that have neither an alias nor tags.
    """

    name: str
    limits: Limits
    codec: Codec
    bound: bool = False
    counts: Counts = field(default_factory=Counts)
    named: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    misses_in_a_row: int = 0
    group: "tuple[Family, None]" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.group = (self, None)

    def understands(self, codec: Codec) -> bool:
        """Return whether what a codec is for has the schema of this family's values."""
        return self.codec is codec or self.codec.fingerprint == codec.fingerprint

    def encode(self, key: str, value: Any) -> bytes:
        """Return the bytes of the value of a key.

        Raises:
            EncodeError: It cannot be stored.
        """
        try:
            return self.codec.encode(value)
        except EncodeError as error:
            raise EncodeError(
                f"The value of {key!r} cannot be stored: {error.args[0]}",
                hint=error.hint or "Return what the annotation says, or annotate what is returned.",
            ) from error

    def tells_apart(self, one: Any, other: Any) -> bool:
        """Return whether two values are stored as different bytes, for more than their order.

        Equality alone does not tell: a class may compare objects by who they are, or by their ids.
        Of what cannot be stored nothing is known.
        """
        try:
            mine, others = self.codec.encode(one), self.codec.encode(other)
            # Equal sets and dicts may be in another order; then the bytes are, too.
            same = mine == others or (sorted(mine) == sorted(others) and bool(one == other))
        except Exception:  # noqa: BLE001 - of a user's class
            return False
        return not same

    def remember_tags(self, key: str, tags: tuple[str, ...]) -> None:
        """Remember what tags the loader has named for a key, of a bounded number of keys."""
        if tags:
            if len(self.named) >= MAX_NAMED and key not in self.named:
                del self.named[next(iter(self.named))]
            self.named[key] = tags
        elif self.named:
            self.named.pop(key, None)
