"""The report of an invalidation: what each tier said."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Report:
    """What the tiers said to an invalidation.

    Attributes:
        l2: ``"done"`` when Redis confirmed, ``"queued"`` when it did not: it will be told again
            until it does, and this process reads around L2 meanwhile. ``"off"`` without an L2.
        l1: ``"done"``: this process has forgotten what was invalidated when the call returns.
            ``"queued"``, with ``l2="queued"``: the call was made inside `after_commit` and takes
            effect when that ends.
        token: Hand it to `TierCache.apply` in another process, and reads there get nothing older;
            empty where there is nobody else to tell.
    """

    l2: Literal["done", "queued", "off"]
    l1: Literal["done", "queued"] = "done"
    token: str = field(default="", compare=False, repr=False)
