"""What observers are told: one frozen record per thing that happens.

An L1 hit is never an event: it would cost more than the hit. Statistics count it.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from async_tiercache._entry import Tier

State: TypeAlias = Literal["fresh", "early", "stale"]


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
        stored: ``"l2"``, ``"l1"`` (L2 is absent or out of reach), or why it was kept nowhere.
        error: The loader's error, if it raised.
    """

    family: str
    key: str
    seconds: float
    stored: Literal["l2", "l1", "overtaken", "negative", "error"]
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes found in L2 were not used; counted as a miss.

    Attributes:
        key: The key's text.
        cause: Why: damaged, another key's, another schema's, or not decodable.
    """

    key: str
    cause: Literal["frame", "key", "schema", "payload"]


@dataclass(frozen=True, slots=True)
class Invalidated:
    """An invalidation ended.

    Attributes:
        keys: The texts of the keys.
        l2: What L2 said.
    """

    keys: tuple[str, ...]
    l2: Literal["done", "queued", "off"]


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
        message: What it is, and how to change or silence it.
    """

    message: str


Event: TypeAlias = Read | Loaded | Refused | Invalidated | TierChanged | Advice
