"""Tenancy: keeps the keys and tags of each tenant where no other tenant can name them.

A tenant's texts begin with its name between two question marks, which no text of a user can hold.
All its entries stand under one tag, which is how a tenant is cleared.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

from async_tiercache._canonical import escape
from async_tiercache.abc import NAMESPACE
from async_tiercache.errors import ConfigurationError, UsageError

Tenant: TypeAlias = str | Callable[[], str]
"""A tenant's name, or what returns it in the context of a call, such as a `ContextVar.get`."""

_SIGN: Final = "?"

V = TypeVar("V")


class Tenancy:
    """The tenant of each call.

    Args:
        tenant: Its name, what returns it, or `None` for a cache without tenants.

    Attributes:
        on: Whether there are tenants.
        varies: Whether it may be another one for each call.

    Raises:
        ConfigurationError: It cannot be a tenant.
    """

    __slots__ = ("_fixed", "_of", "on", "varies")

    def __init__(self, tenant: Tenant | None) -> None:
        self._of: Callable[[], Any] | None = None
        self._fixed = ""
        if callable(tenant):
            self._of = tenant
        elif tenant is not None:
            if not isinstance(tenant, str) or not tenant:
                raise ConfigurationError(
                    f"tenant={tenant!r} is no name",
                    hint="Pass a str, or a function that returns it, such as TENANT.get.",
                )
            self._fixed = _prefix(tenant)
        self.varies = self._of is not None
        self.on = tenant is not None

    def prefix(self) -> str:
        """Return what the texts of the calling tenant begin with; empty without tenants.

        Raises:
            UsageError: There should be a tenant, and there is none.
        """
        if self._of is None:
            return self._fixed
        try:
            tenant = self._of()
        except LookupError:
            tenant = None
        if not isinstance(tenant, str) or not tenant:
            raise UsageError(
                f"The cache has tenants, and this call has none (tenant= returned {tenant!r})",
                hint="Set the context variable before the cache is used.",
            )
        return _prefix(tenant)

    def tags(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Return the texts of tags, and for a tenant the tag of all its entries."""
        prefix = self.prefix()
        return (prefix, *(prefix + tag for tag in tags)) if prefix else tuple(tags)

    def named(self, tags: Iterable[str]) -> tuple[str, ...]:
        """Return the texts of tags that are to be invalidated."""
        prefix = self.prefix()
        return tuple(prefix + tag for tag in tags)

    def everything(self) -> str:
        """Return the tag of all entries that the caller may clear."""
        return self.prefix() or NAMESPACE


class OwnKeys(Generic[V]):
    """What stands under texts, by the keys that the calling tenant knows them by.

    Args:
        tenancy: The tenant of each call.
        by_text: What stands under texts.
    """

    __slots__ = ("_by_text", "_prefix")

    def __init__(self, tenancy: Tenancy, by_text: Mapping[str, V]) -> None:
        self._by_text = by_text
        self._prefix = tenancy.prefix

    def __getitem__(self, key: str) -> V:
        return self._by_text[self._prefix() + key]


def owned(text: str, prefix: str) -> bool:
    """Return whether a key is that of the tenant with a prefix, or of none if that is empty."""
    return text.startswith(prefix) and _SIGN not in text[len(prefix) :]


def _prefix(tenant: str) -> str:
    return f"{_SIGN}{escape(tenant)}{_SIGN}"
