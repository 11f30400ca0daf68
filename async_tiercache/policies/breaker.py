"""Decide whether a tier that failed may be asked again.

Pure: `now` is monotonic and comes in as an argument. One failure opens the breaker; after `period`
one caller at a time probes, so a tier that is down costs one waiting caller per period.
"""

from typing import Literal


class Breaker:
    """Closed while its tier answers, open while it does not, half-open while one caller probes.

    Args:
        period: Seconds from the last failure to a probe, and from one probe to the next.

    Attributes:
        state: Whether the tier is asked, not asked, or being probed.
    """

    __slots__ = ("_probe_deadline", "period", "state")

    def __init__(self, period: float = 0.5) -> None:
        self.period = period
        self.state: Literal["closed", "open", "half-open"] = "closed"
        self._probe_deadline = 0.0

    def __repr__(self) -> str:
        return f"<Breaker {self.state}>"

    def allow(self, now: float) -> bool:
        """Return whether the caller may ask the tier; it then reports `success` or `failure`.

        A probe whose caller vanished without a report holds others back for one `period` only.
        """
        if self.state == "closed":
            return True
        if now < self._probe_deadline:
            return False
        self.state = "half-open"
        self._probe_deadline = now + self.period
        return True

    def success(self) -> bool:
        """Close, and return whether the tier came back by it."""
        came_back = self.state != "closed"
        self.state = "closed"
        return came_back

    def failure(self, now: float) -> bool:
        """Open, and return whether the tier went down by it; a failed probe is no news."""
        went_down = self.state == "closed"
        self.state = "open"
        self._probe_deadline = now + self.period
        return went_down
