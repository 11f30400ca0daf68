"""A run against the figures on record: what has become so much worse that chance is no reason."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

GROWTH: Final = {
    "hits": 1.8,
    "l2": 2.0,
    "batches": 2.0,
    "misses": 2.0,
    "stampedes": 2.0,
    "codecs": 2.0,
    "telemetry": 1.6,
    "memory": 1.2,
    "end_to_end": 1.1,
    "http": 2.0,
}
"""By benchmark, by how much a ratio in processor time, or a figure without a unit of time, may have
grown: more than it differs between machines and versions of Python. Others are not compared."""
SHRINKAGE: Final = 0.02
"""By how much a share of the reads that memory answers may have shrunk; it hangs on no machine."""

_UNITS: Final = frozenset({"bytes", "reads", "times"})


def losses(report: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each figure that has become much worse.

    Args:
        report: What this run has written.
        record: What is on record.
    """
    for bench, results in report["benches"].items():
        before = {_name(result): result for result in record["benches"].get(bench, ())}
        for now in results:
            then = before.get(_name(now))
            # A quick look draws shorter traces.
            if then is not None and ("shares" not in now or report["quick"] == record["quick"]):
                yield from _loss(bench, now, then)


def _name(result: Mapping[str, Any]) -> tuple[Any, ...]:
    parts = ("group", "case", "clock", "classical", "restated", "trace", "size")
    return tuple(result.get(part) for part in parts)


def _loss(bench: str, now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    if "shares" in now:
        ours, then = now["shares"]["ours"], before["shares"]["ours"]
        if ours < then - SHRINKAGE:
            yield f"{bench}: {now['trace']}, {now['size']} entries: {ours:.3f}, was {then:.3f}"
        return
    growth = GROWTH.get(bench)
    if growth is None:
        return
    if now.get("clock") == "cpu":
        ratio, then, name = now["ratio"]["median"], before["ratio"]["median"], now["case"]
    elif now.get("unit") in _UNITS and not now["at_least"]:
        ratio, then, name = now["measured"], before["measured"], now["restated"]
    else:
        return
    if ratio > growth * then:
        yield f"{bench}: {name}: {ratio:.2f}, was {then:.2f}; {growth:g} times that is allowed"
