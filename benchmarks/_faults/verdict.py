"""What a cell proves: which bars it missed, and why it may prove nothing."""

from benchmarks._faults.cell import HEAL_LIMIT, Outcome, Pace
from benchmarks._faults.crowd import SERVED_LIMIT
from benchmarks._faults.faults import FAULTS

HANG_GRACE = 0.5
"""How much longer than a load a read may take while Redis hangs, in seconds."""
LEAST_READS = 10_000
LEAST_RACES = 200

_ZERO = ("late", "forever", "ryw", "nonmonotonic", "hung", "collateral")


def missed(outcome: Outcome) -> list[str]:
    """Return what an outcome has that it must not have, in words.

    Where Redis loses what a process has shown already, that process cannot help going back in time
    until the loss is healed; those reads are counted and not held against it.
    """
    fault, tally = FAULTS[outcome.fault], outcome.tally
    counts = {name: getattr(tally, name) for name in _ZERO}
    if fault.loses_data:
        began, ended = outcome.struck
        excused = tally.count_kept("nonmonotonic", began, ended + HEAL_LIMIT)
        counts["nonmonotonic"] -= excused
    bars = [f"{name} {count}" for name, count in counts.items() if count]
    if tally.errors:
        bars.append(f"errors {sum(tally.errors.values())}")
    if fault.hangs and tally.longest_read > tally.longest_load + HANG_GRACE:
        bars.append(f"longest read {tally.longest_read:.2f} s")
    crowds = outcome.stampedes
    for name, loads, bar in (
        ("cold", crowds.cold, 1),
        ("invalidated", crowds.invalidated, 1),
        ("killed", crowds.killed, 2),
    ):
        if loads and max(loads) > bar:
            bars.append(f"{name} {max(loads)} loads")
    if crowds.served and max(crowds.served) > SERVED_LIMIT:
        bars.append(f"served after {max(crowds.served):.2f} s")
    return bars


def void(outcome: Outcome, pace: Pace) -> list[str]:
    """Return why a cell proves nothing, in words; what only ours counts is asked of ours only."""
    fault, tally = FAULTS[outcome.fault], outcome.tally
    if fault.crowd:
        return []
    least = {"checked": (tally.checked, LEAST_READS), "raced": (tally.raced, LEAST_RACES)}
    if outcome.adapter == "ours":
        least["overtaken"] = (tally.counts.get("overtaken", 0), LEAST_RACES)
        least["detached"] = (tally.counts.get("detached", 0), LEAST_RACES)
        if fault.expires_proof:
            least["bypassed"] = (tally.counts.get("bypassed", 0), LEAST_RACES)
    reasons = [
        f"{name} {count} < {bar * pace.share:.0f}"
        for name, (count, bar) in least.items()
        if count < bar * pace.share
    ]
    return reasons + [f"no {name}" for name, count in outcome.evidence.items() if not count]
