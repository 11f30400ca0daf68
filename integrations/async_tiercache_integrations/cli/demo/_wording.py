"""How figures are worded: in the terminal, in the report, and in verdicts."""

from typing import Final

from async_tiercache_integrations.cli.demo._measure import Histogram

NONE: Final = "\N{EN DASH}"


def duration(seconds: float) -> str:
    """Return a duration with the unit that fits it; a dash for none.

    Example:
        >>> duration(0.01234), duration(0.0000021)
        ('12.3 ms', '2.1 µs')
    """
    if seconds <= 0:
        return NONE
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.2g} µs" if seconds < 1e-4 else f"{seconds * 1e6:.0f} µs"


def loads(count: int) -> str:
    """Return how many loads there were.

    Example:
        >>> loads(1), loads(2)
        ('1 load', '2 loads')
    """
    return f"{count:,} load" if count == 1 else f"{count:,} loads"


def percent(share: float) -> str:
    """Return a share of 0..1 in per cent, rounded down, so that only all is 100 %.

    Example:
        >>> percent(0.9996), percent(0.5), percent(0.00012)
        ('99.9 %', '50 %', '0.012 %')
    """
    if 0 < share < 0.001:
        return f"{share * 100:.2g} %"
    return f"{int(share * 1_000 + 1e-9) / 10:g} %"


def quantiles(histogram: Histogram) -> str:
    """Return the median and the 99th percentile."""
    if not histogram.count:
        return NONE
    return f"{duration(histogram.quantile(0.5))} / {duration(histogram.quantile(0.99))}"
