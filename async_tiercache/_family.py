"""The family: the keys of one decorated coroutine, and what they share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from async_tiercache._context import LoadContext
from async_tiercache._gatherer import Part
from async_tiercache._options import Limits
from async_tiercache._statistics import Counts
from async_tiercache.abc import Codec

LoadOne: TypeAlias = Callable[[LoadContext], Awaitable[Any]]
"""Fetches the value from the source, with the arguments already bound."""

Alias: TypeAlias = tuple[dict[Any, Any], Any]
"""A table of a compiled call path and the key under which it looks for a slot."""


@dataclass(slots=True, eq=False)
class Load:
    """How the value of one key is fetched from the source.

    Attributes:
        alone: Fetches it by itself.
        part: Fetches it together with the other keys of its call, instead.
        behind: Fetches it together with others when nobody waits for it, if that can be.
    """

    alone: LoadOne | None = None
    part: Part | None = None
    behind: Callable[[], Part | None] | None = None


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
    """

    name: str
    limits: Limits
    codec: Codec
    bound: bool = False
    counts: Counts = field(default_factory=Counts)
