"""Every error that this package raises, in one tree.

    TierCacheError
    ├── ConfigurationError      a decorator, policy or constructor was given something it cannot use
    │   ├── KeyTemplateError    a template does not fit the function it is applied to
    │   └── MissingExtraError   an optional package is not installed
    ├── UsageError              the call came at the wrong time or place
    │   ├── CacheClosedError    the cache was closed, or belongs to the parent of this fork
    │   └── RecursiveLoadError  a loader waits for the very key it is loading
    ├── UnkeyableError          an argument cannot stand in a key
    ├── EncodeError             a value cannot be stored
    ├── DecodeError             stored bytes are not a value of the type (counted as a miss)
    ├── LoadError               a load ended without a value and without an error of its own
    │   ├── LoadTimeoutError    the loader took longer than `load_limit`
    │   └── LoadCancelledError  the loader cancelled itself
    └── TierError               a tier did not answer
        ├── InvalidationQueuedError  it has not confirmed, and the caller insisted (`strict=True`)
        ├── TierPartError       a part of it did not answer, the rest does
        └── TierRefusedError    the tier answers, but refused this command (it is full, for example)

Every error carries a `hint`: what the reader can do about it.
"""

from typing import Any, Final

from async_tiercache._report import Report

_QUEUED: Final = Report("queued")


class TierCacheError(Exception):
    """The base of all errors of this package.

    Attributes:
        hint: What to do about it, or an empty string.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\nHint: {self.hint}" if self.hint else message

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would call the class with the formatted message only and lose the attributes.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[TierCacheError], args: tuple[Any, ...], state: dict[str, Any]
) -> TierCacheError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(TierCacheError, ValueError):
    """A constructor, policy or decorator was given something that it cannot use."""


class KeyTemplateError(ConfigurationError):
    """A key template does not fit the signature of the function it is applied to."""


class MissingExtraError(ConfigurationError, ImportError):
    """A feature needs an optional package that is not installed; the hint names the extra."""


class UsageError(TierCacheError, RuntimeError):
    """The call came at the wrong time or from the wrong place."""


class CacheClosedError(UsageError):
    """The cache was closed, or it belongs to the parent of this forked process."""


class RecursiveLoadError(UsageError):
    """A loader waits for the key that it is itself loading, directly or through others.

    Attributes:
        key: The key whose load would have waited for itself.
    """

    def __init__(self, message: str, *, key: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.key = key


class UnkeyableError(TierCacheError, TypeError):
    """An argument cannot stand in a key, because its text would not be stable or not be unique.

    Attributes:
        parameter: The name of the parameter that holds the argument, if known.
    """

    def __init__(self, message: str, *, parameter: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.parameter = parameter


class EncodeError(TierCacheError, TypeError):
    """A value cannot be stored: its type is not supported, or not the annotated one."""


class DecodeError(TierCacheError, ValueError):
    """Stored bytes are not a value of the wanted type.

    The cache counts it as a miss; it never reaches a reader.
    """


class LoadError(TierCacheError):
    """A load ended without a value and without an error of the loader's own."""


class LoadTimeoutError(LoadError, TimeoutError):
    """The loader took longer than the policy's `load_limit`."""


class LoadCancelledError(LoadError):
    """The loader was cancelled from inside, by none of its callers."""


class TierError(TierCacheError):
    """A tier did not answer; readers never see it, they get their value from elsewhere.

    Attributes:
        tier: The name of the tier, for example ``"l2"``.
    """

    def __init__(self, message: str, *, tier: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.tier = tier


class TierPartError(TierError):
    """A node of the tier did not answer, others do.

    Attributes:
        keys: Of an invalidation, the keys that were not removed; the others were.
        tags: Likewise.
    """

    def __init__(
        self,
        message: str,
        *,
        tier: str = "",
        keys: tuple[str, ...] = (),
        tags: tuple[str, ...] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, tier=tier, hint=hint)
        self.keys = keys
        self.tags = tags


class TierRefusedError(TierError):
    """The tier answers, but refused this command: it is full, or the key holds a foreign type."""


class InvalidationQueuedError(TierError):
    """An invalidation with ``strict=True`` was not confirmed by L2; it will be told again.

    This process has forgotten what was invalidated, and reads around L2 until that confirms.

    Attributes:
        report: What each tier said.
    """

    def __init__(
        self, message: str, *, tier: str = "", report: Report = _QUEUED, hint: str = ""
    ) -> None:
        super().__init__(message, tier=tier, hint=hint)
        self.report = report
