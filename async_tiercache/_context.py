"""The load context: what a loader may say about the value that it loads, and is told about it."""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ForwardRef, Never, get_args

from async_tiercache._options import MISSING, Duration, Missing, lifetime_in_seconds
from async_tiercache._signature import annotations_of, signature_of
from async_tiercache.errors import ConfigurationError, UsageError
from async_tiercache.tags import checked_tags

_LONGEST_ETAG = 255
_NAMED = re.compile(r"\bLoadContext\b")


class LoadContext:
    """Given to a loader that has a parameter with this annotation.

    Give the parameter ``= LoadContext()`` as its default, or ``LoadContext | None`` and ``= None``,
    so that callers need not pass it; it is no part of the key.

    Attributes:
        stale_value: The value that is being refreshed; MISSING when there is none.
        ended: Whether the ttl of that is over, or it was invalidated softly; after ``soft=0`` it is
            served no more unless the loader says that it is current.
        renews: Set it where the value is made of that: then it stands under all of its tags, too.

    Example:
        >>> from async_tiercache import LoadContext, TierCache
        >>> cache = TierCache(namespace="shop")
        >>> @cache.cached("price:{sku}")
        ... async def price(sku: str, context: LoadContext = LoadContext()) -> float:
        ...     if sku.startswith("volatile"):
        ...         context.ttl = "5s"
        ...     return 9.99
        >>> import asyncio
        >>> asyncio.run(price("volatile-1"))
        9.99
    """

    __slots__ = (
        "_etag",
        "_negative",
        "_new_etag",
        "_prefix",
        "_skipped",
        "_tags",
        "_ttl",
        "_unmodified",
        "ended",
        "renews",
        "stale_value",
    )

    def __init__(
        self,
        *,
        stale_value: Any | Missing = MISSING,
        etag: str = "",
        prefix: str = "",
        ended: bool = False,
    ) -> None:
        self.stale_value = stale_value
        self.ended = ended
        self.renews = False
        self._prefix = prefix
        self._etag = etag
        self._new_etag: str | None = None
        self._ttl: float | None = None
        self._skipped = False
        self._negative = False
        self._unmodified = False
        self._tags: tuple[str, ...] = ()

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags that the value stands under besides those of the decorator.

        Set them to what the loader has found out: ``context.tags = [f"author:{book.author_id}"]``.
        If any tag was invalidated while the value was loaded, it goes to its callers only: nobody
        knows whether the new tags were concerned.
        """
        return self._tags

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self._tags = checked_tags(tags)

    @property
    def texts(self) -> tuple[str, ...]:
        """The tags as the tiers know them, with what those of the tenant begin with."""
        return tuple(self._prefix + tag for tag in self._tags) if self._prefix else self._tags

    @property
    def ttl(self) -> float | None:
        """How long this value is fresh, in seconds; `None` leaves it to the policy."""
        return self._ttl

    @ttl.setter
    def ttl(self, ttl: Duration | None) -> None:
        self._ttl = None if ttl is None else lifetime_in_seconds(ttl, name="ttl")
        if self._ttl == 0:
            raise ConfigurationError("ttl=0 would keep nothing", hint="Call skip() instead.")

    @property
    def etag(self) -> str:
        """What names the source's state: of `stale_value` until the loader sets that of its value.

        It is stored beside the value, and is empty when there is none; a new value whose loader
        sets none has none. Up to 255 bytes of UTF-8.
        """
        return self._etag if self._new_etag is None else self._new_etag

    @etag.setter
    def etag(self, etag: str) -> None:
        try:
            fits = isinstance(etag, str) and len(etag.encode()) <= _LONGEST_ETAG
        except UnicodeEncodeError:
            fits = False
        if not fits:
            raise ConfigurationError(
                "An etag is a str of at most 255 bytes of UTF-8", hint="Set a digest of it instead."
            )
        self._new_etag = etag

    def skip(self) -> None:
        """Store nothing: the value goes to those who wait for it, and nowhere else."""
        self._skipped = True

    def negative(self) -> None:
        """Keep the value for `negative_ttl`, as a `None` would be."""
        self._negative = True

    def not_modified(self) -> Never:
        """Return `stale_value` and let it be fresh for another ttl, without storing it again.

        Write ``return context.not_modified()``; its type fits every loader's.

        Raises:
            UsageError: There is no stale value.
        """
        if self.stale_value is MISSING:
            raise UsageError(
                "not_modified() without a stale value",
                hint="Ask the source for a full answer while stale_value is MISSING.",
            )
        self._unmodified = True
        # It does return: `Never` is what any return type takes, and the value has the loader's.
        return self.stale_value  # type: ignore[misc]

    def adopt(self, other: "LoadContext") -> None:
        """Take over what the loader of a batch has said about all of its values."""
        self._ttl = other.ttl
        self._tags = other.tags
        self._skipped = other.skipped
        self._negative = other.is_negative

    @property
    def skipped(self) -> bool:
        """Whether `skip` was called."""
        return self._skipped

    @property
    def is_negative(self) -> bool:
        """Whether `negative` was called."""
        return self._negative

    @property
    def new_etag(self) -> str:
        """The etag of the loader's own value."""
        if self._new_etag is not None:
            return self._new_etag
        return self._etag if self._unmodified else ""

    @property
    def unmodified(self) -> bool:
        """Whether `not_modified` was called."""
        return self._unmodified


def context_parameter(function: Callable[..., Any], hints: Mapping[str, Any]) -> str | None:
    """Return the name of the parameter that takes the load context, if there is one.

    Args:
        function: A loader.
        hints: Its resolved annotations; what could not be resolved is told by its text.

    Raises:
        ConfigurationError: The parameter is positional-only, or there are two.
    """
    found: list[inspect.Parameter] = []
    for name, parameter in signature_of(function).parameters.items():
        hint = hints.get(name, parameter.annotation)
        text = hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
        told = isinstance(text, str) and _NAMED.search(text) is not None
        if hint is LoadContext or LoadContext in get_args(hint) or told:
            found.append(parameter)
    if not found:
        return None
    if len(found) > 1 or found[0].kind is inspect.Parameter.POSITIONAL_ONLY:
        raise ConfigurationError(
            f"{function.__qualname__} must take its LoadContext by one name",
            hint="Write `context: LoadContext = LoadContext()` as its last parameter.",
        )
    return found[0].name


def taking_context(
    loader: Callable[..., Awaitable[Any]],
) -> tuple[Callable[[Any], Awaitable[Any]], bool]:
    """Return a loader that takes a load context, and whether the given one does."""
    annotations = annotations_of(loader)
    name = None
    if len(annotations) > ("return" in annotations):
        name = context_parameter(loader, annotations)
    if name is None:
        return (lambda _context: loader()), False
    return (lambda context: loader(**{name: context})), True
