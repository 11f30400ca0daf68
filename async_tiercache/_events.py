"""What observers are told, one frozen record per thing that happens, and what tracers trace.

An L1 hit is neither: it would cost more than the hit. Statistics count it.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from async_tiercache._entry import Tier

State: TypeAlias = Literal["fresh", "early", "stale"]
Stored: TypeAlias = Literal[
    "l2",
    "l1",
    "overtaken",
    "negative",
    "oversized",
    "skipped",
    "unencodable",
    "unproven",
    "unsound",
    "expired",
]
"""Where a loaded value is kept: L2, L1 alone because L2 is absent or out of reach, or nowhere.

``"unproven"`` is in L1 alone, because L2 did not say under which ids it would stand there, and
``"unencodable"``, because no frame can be made of it.
"""

Cause: TypeAlias = Literal[
    "frame",
    "key",
    "format",
    "schema",
    "compression",
    "dictionary",
    "payload",
    "tag",
    "namespace",
]
"""Why bytes that L2 holds are of no use; see `Refused`."""


@dataclass(frozen=True, slots=True)
class Read:
    """One call that left L1 has its value; sent in the context of the caller.

    Attributes:
        family: The family's name.
        key: The key's text.
        tier: Which tier answered: ``"l1"`` only for a value past its early or fresh time.
        state: How fresh the answer was.
        joined: Whether the call waited for a flight that another call had started.
        seconds: From the call to its value.
    """

    family: str
    key: str
    tier: Tier
    state: State
    joined: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loader ended.

    Attributes:
        family: The family's name.
        key: The key's text.
        seconds: How long the loader took.
        stored: ``"l2"``, ``"l1"`` (L2 is absent or out of reach), or why it was kept nowhere:
            ``"overtaken"`` by an invalidation, ``"negative"``, ``"oversized"``, ``"skipped"`` by
            the loader, ``"unsound"`` because it was made from what is stale or is about to change,
            ``"expired"`` because its load took longer than it would live,
            ``"unproven"``: in memory only, without the evidence that L2 asks for,
            ``"unencodable"``: in memory only, since no frame can be made of it; or ``"error"``.
        error: The loader's error, if it raised.
    """

    family: str
    key: str
    seconds: float
    stored: Stored | Literal["error"]
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes found in L2 were not used; counted as a miss.

    Attributes:
        key: The key's text.
        cause: Why: damaged, another key's, of a format that this release does not know, another
            schema's, compressed by a package or with a dictionary that is missing here, not
            decodable, or ended by an invalidation of a tag or of the namespace.
    """

    key: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class Invalidated:
    """An invalidation ended.

    Attributes:
        keys: The texts of the keys.
        l2: What L2 said.
        tags: The texts of the tags; ``"*"`` is the tag of all entries.
    """

    keys: tuple[str, ...]
    l2: Literal["done", "queued", "off"]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TierChanged:
    """A tier stopped or started answering.

    Attributes:
        tier: The tier's name.
        up: Whether it answers now.
        error: What it answered instead, when it went down.
    """

    tier: Tier
    up: bool
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """Something about the set-up that its owner should know; sent once each.

    Attributes:
        name: Its name; the logger ``async_tiercache.advice.NAME`` says it, and silences it.
        message: What it is, and which setting changes it.
    """

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Mutated:
    """A shared value was changed by somebody who got it; only ``isolation="check"`` finds that.

    Attributes:
        key: The key's text.
    """

    key: str


Event: TypeAlias = Read | Loaded | Refused | Invalidated | TierChanged | Advice | Mutated


@dataclass(slots=True, eq=False)
class Operation:
    """A piece of work that takes time, filled in as it goes; a tracer reads it at its end.

    Attributes:
        name: ``"get"``: a call that L1 could not answer. ``"load"``: a loader runs. ``"wait"``:
            another process loads. ``"put"``: a value goes into L2. ``"invalidate"``: keys leave it.
        family: The family's name; empty for calls that belong to none.
        keys: The texts of the keys.
        namespace: The cache's namespace.
        tier: Which tier answered a get; of several keys the furthest. `None` if one had no answer.
        state: How fresh that answer was; of several keys the least.
        stale_ages: How long past their time the stale values of a get were, in seconds.
        size: Bytes of the encoded value that a put stores, or of the one that a get found.
        stored: What became of a put: as in `Loaded`; what L2 said to an invalidation.
        loads: Loads of other calls whose answer a get has.
        tags: The texts of the tags that an invalidation names.
        span: Whatever the tracer wants to find again, on this operation or through `loads`.
    """

    name: Literal["get", "load", "wait", "put", "invalidate"]
    family: str
    keys: tuple[str, ...]
    namespace: str = ""
    tier: Tier | None = None
    state: State | None = None
    stale_ages: tuple[float, ...] = ()
    size: int | None = None
    stored: str = ""
    loads: "tuple[Operation, ...]" = ()
    tags: tuple[str, ...] = ()
    span: Any = None
