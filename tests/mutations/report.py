"""What the runs have found, as a line and as the page docs/design/mutations.md."""

from collections.abc import Mapping, Sequence
from typing import Final

from tests.mutations.mutation import Mutation
from tests.mutations.run import BY, ROOT, By, Verdict

PAGE: Final = ROOT / "docs/design/mutations.md"
_ENOUGH: Final = 2

_HEAD: Final = """# The mutation table

*Each safeguard of the protocol taken out, and who notices.*
*For contributors; [the protocol](protocol.md#why-each-safeguard-is-there) says why they are there.*

This page is generated: `python -m tests.mutations --json FILE` takes one safeguard after the other
out of a copy of the tree, and asks three witnesses.

- **Named tests**: forced schedules that are about this very safeguard.
- **Simulator**: the schedules of `tests/core/test_simulator.py`. Known ones come first, each
  spelled out for one safeguard in `tests/core/simulation/known.py`, and then {schedules:,} drawn
  ones, the same each time; any that breaks a promise counts. Redis and the bus are models in Python
  there. Where a safeguard is their part, it is taken out of the model as well, and only the named
  tests and the bench are about the scripts and connections themselves.
- **Bench**: one short run of each fault that is named, by `python -m benchmarks faults`: real
  servers that fail under three seconds of traffic, so its "no" is weak. Its "yes" was seen in two
  runs. The traffic reads and invalidates keys, so tags, blocks and nested values are out of its
  reach (-).

All are asked with all safeguards in place first. Named tests must pass then; schedules and bars
that fail even so do not count. A run that does not end in time has noticed, too.

"""


def line_of(mutation: Mutation, verdicts: Mapping[By, Verdict]) -> str:
    """Return what was found about one safeguard, for a terminal."""
    found = [f"{by}: {_told(verdicts.get(by))}" for by in BY if by in verdicts]
    return f"{mutation.name:28} {'; '.join(found)}"


def page_of(
    mutations: Sequence[Mutation], known: Mapping[str, Mapping[By, Verdict]], schedules: int
) -> str:
    """Return the page.

    Args:
        mutations: Its rows.
        known: By name, who has noticed.
        schedules: How many the simulator was given.
    """
    rows = [
        "| safeguard | without it | for | named tests | simulator | bench |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    few: list[str] = []
    counts = [0] * (len(BY) + 1)
    for mutation in mutations:
        verdicts = known[mutation.name]
        cells = [_cell(verdicts.get("named")), _cell(verdicts.get("simulator"))]
        asked = "".join(f" `{cell}`" for cell in mutation.cells)
        cells.append(_cell(verdicts.get("bench")) + asked)
        safeguard, where = mutation.safeguard, mutation.file.rpartition("/")[2]
        rows.append(
            f"| {safeguard} | `{mutation.name}` in `{where}` | {mutation.guards} "
            f"| {' | '.join(cells)} |"
        )
        caught = [by for by in BY if by in verdicts and verdicts[by].caught]
        counts[len(caught)] += 1
        if len(caught) < _ENOUGH:
            by = f"by {caught[0]} only" if caught else "by nobody"
            few.append(f"- `{mutation.name}`: {by}{': ' if mutation.note else '.'}{mutation.note}")
    told = (
        f"Of {len(mutations)} safeguards {sum(counts[_ENOUGH:])} are seen missing by two witnesses "
    )
    told += f"or three, {counts[1]} by one, and {counts[0]} by none.\n\n"
    tail = ""
    if few:
        tail = "\n## Noticed by fewer than two\n\n" + "\n".join(few) + "\n"
    return _HEAD.format(schedules=schedules) + told + "\n".join(rows) + "\n" + tail


def _cell(verdict: Verdict | None) -> str:
    if verdict is None:
        return "-"
    if not verdict.caught:
        return "no"
    return "hangs" if verdict.how == "hangs" else "yes"


def _told(verdict: Verdict | None) -> str:
    if verdict is None:
        return "-"
    return f"caught ({verdict.how[:100]})" if verdict.caught else "NOT caught"
