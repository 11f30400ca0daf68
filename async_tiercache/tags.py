"""Tags: their texts, and what a tag's state says about an entry that stands under it.

A tag's *state* is the evidence that nothing was invalidated: an entry carries the ids that its tags
had before it was loaded, and is alive while they are still the same. Ids are never used again, so a
state that was lost makes a miss. A hard invalidation replaces the hard id. A soft one replaces only
the soft id, remembers the one before, and says until when what stands under that may be served.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast
from uuid import UUID

from async_tiercache._canonical import canonical, escape
from async_tiercache._signature import signature_of
from async_tiercache.errors import ConfigurationError, UsageError
from async_tiercache.keys import Template, check_text

ID_BYTES: Final = 12
"""6 random bytes and 6 of the server's time, which make each execution of a script give another."""
PAIR_BYTES: Final = 2 * ID_BYTES
MAX_TAGS: Final = 64
"""No entry has more tags that users have named."""
MAX_HELD: Final = MAX_TAGS + 1
"""No entry has more tags: that of its tenant comes to those that users have named."""

_STATE: Final = struct.Struct(f">{ID_BYTES}s{ID_BYTES}s{ID_BYTES}sd")
STATE_BYTES: Final = _STATE.size

NEVER_SERVED: Final = 0.0
"""Until then what a soft invalidation without a window has made stale may be served."""

Verdict: TypeAlias = Literal["alive", "stale", "dead"]


class TagState(NamedTuple):
    """The state of a tag, as the remote tier holds it.

    Attributes:
        hard: Replaced by a hard invalidation.
        soft: Replaced by a soft one.
        softened: The soft id before the last soft invalidation.
        until: When what has `softened` is dead, by the remote tier's clock.
    """

    hard: bytes
    soft: bytes
    softened: bytes
    until: float

    @property
    def pair(self) -> bytes:
        """What an entry carries: both ids."""
        return self.hard + self.soft


def pack_until(until: float) -> bytes:
    """Return how an instant stands in a state."""
    return struct.pack(">d", until)


def pair_of(state: bytes | None) -> bytes | None:
    """Return what an entry carries of a stored state: both ids.

    `None` if there is no evidence in it: it was lost, is blocked or damaged.
    """
    return state[:PAIR_BYTES] if state is not None and len(state) == STATE_BYTES else None


def state_of(raw: bytes | None) -> TagState | None:
    """Return the state in stored bytes; `None` if that is none: lost, blocked or damaged."""
    if raw is None or len(raw) != STATE_BYTES:
        return None
    return TagState(*_STATE.unpack(raw))


def judge(pair: bytes, state: TagState | None) -> tuple[Verdict, float]:
    """Return what a tag's state says about an entry, and until when a stale one may be served.

    Args:
        pair: The ids that the entry carries.
        state: The tag's state by now.
    """
    if state is None or pair[:ID_BYTES] != state.hard:
        return "dead", 0.0
    soft = pair[ID_BYTES:]
    if soft == state.soft:
        return "alive", 0.0
    return ("stale", state.until) if soft == state.softened else ("dead", 0.0)


# What rows have, and requests have as a text; how its content is had from a subclass, too.
_PLAIN: Final[dict[type, Callable[[Any], str | int]]] = {
    str: str.__str__,
    int: int.__int__,
    UUID: UUID.__str__,
    date: date.isoformat,
}


def tag_text(value: object) -> str:
    """Spell a value that stands in a tag, by its content alone where that is a text or an id.

    Raises:
        UnkeyableError: The value has no text.

    Example:
        >>> tag_text(1), tag_text("1"), tag_text(UUID(int=1))
        ('1', '1', '00000000-0000-0000-0000-000000000001')
    """
    if type(value) is str:
        return escape(value)
    kept = type(value) is int or isinstance(value, bool | datetime)
    if not kept and not hasattr(value, "__cache_key__"):
        for kind, content in _PLAIN.items():
            if isinstance(value, kind):
                plain = content(value)
                return escape(plain) if isinstance(plain, str) else canonical(plain)
    return canonical(value)


class TagMaker:
    """The tags of one function's values: made when it is decorated, asked at each miss.

    Args:
        function: The decorated function.
        templates: Such as ``"user:{user_id}"``, over its parameters.
        hidden: The parameter that the cache itself passes, if there is one.

    Attributes:
        names: The parameters that they are made of, `self` among them.
        fixed: The texts, if they are the same for all calls.

    Raises:
        ConfigurationError: They are no list, or too many.
        KeyTemplateError: One does not fit the function.
    """

    __slots__ = ("_templates", "fixed", "names")

    def __init__(
        self, function: Callable[..., Any], templates: Sequence[str], *, hidden: str | None = None
    ) -> None:
        if isinstance(templates, str) or not isinstance(templates, Sequence):
            raise ConfigurationError(
                f"tags={templates!r} is no list of templates", hint='Pass tags=["user:{user_id}"].'
            )
        if len(templates) > MAX_TAGS:
            raise ConfigurationError(
                f"{len(templates)} tags are more than {MAX_TAGS}",
                hint="Give what belongs together one tag in common.",
            )
        self._templates = [Template(template) for template in templates]
        parameters = [name for name in signature_of(function).parameters if name != hidden]
        for template in self._templates:
            template.check(parameters)
        self.names = {item.name for each in self._templates for item in each.placeholders}
        self.fixed = None if self.names else self._spelled({})

    def texts(
        self, names: Sequence[str], owner: object, values: Sequence[object]
    ) -> tuple[str, ...]:
        """Return the texts of a call's tags, each once.

        Args:
            names: The parameters without `self`.
            owner: `self`, or `None`.
            values: The values of the parameters.

        Raises:
            UnkeyableError: A value has no text.
        """
        if self.fixed is not None:
            return self.fixed
        # As many of each; to have that checked, each read of L2 would take longer.
        arguments = dict(zip(names, values))  # noqa: B905
        arguments["self"] = owner
        return self._spelled(arguments)

    def _spelled(self, arguments: Mapping[str, object]) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(template.text(arguments, tag_text) for template in self._templates)
        )


def tag_texts(tags: object) -> tuple[str, ...]:
    """Return the texts of tags that a caller wrote, each once.

    Raises:
        UnkeyableError: A text cannot be a tag.
        UsageError: They are no list.
    """
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise UsageError(f"tags={tags!r} is no list of tags", hint='Pass tags=["user:42"].')
    return tuple(dict.fromkeys(check_text(tag, what="tag") for tag in cast("Any", tags)))


def checked_tags(tags: object) -> tuple[str, ...]:
    """Return the texts of the tags that one value is to stand under, each once.

    Raises:
        UnkeyableError: A text cannot be a tag.
        UsageError: They are no list, or too many.
    """
    texts = tag_texts(tags)
    if len(texts) > MAX_TAGS:
        raise UsageError(
            f"{len(texts)} tags are more than {MAX_TAGS}",
            hint="Give what belongs together one tag in common.",
        )
    return texts
