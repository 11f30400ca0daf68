"""Which figures does the documentation show?

`python -m benchmarks record RUN.json` puts a run of the suite on record: its figures here, as
tables on the page about benchmarks, and as a picture. The gate holds later runs against them. A run
of a part of the suite takes the place of that part, and the page says what it was measured on.
"""

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from async_tiercache_integrations.cli.demo._claims import Claim
from benchmarks import _table
from benchmarks._files import run_of_suite, write
from benchmarks._page import picture

_ROOT: Final = Path(__file__).parents[1]
FIGURES: Final = Path(__file__).with_name("figures.json")
PAGE: Final = _ROOT / "docs" / "benchmarks.md"
PICTURE: Final = _ROOT / "docs" / "pictures" / "benchmarks.svg"

OURS: Final = "async-tiercache"
"""Its group, which the picture sets apart."""

_BLOCK: Final = re.compile(
    r"(<!-- figures of (\w+) -->\n).*?(<!-- end of figures -->\n)", re.DOTALL
)
_EN_DASH: Final = "\N{EN DASH}"


def command(arguments: Sequence[str]) -> int:
    """Put a run on record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks record", description=__doc__)
    parser.add_argument("run", type=run_of_suite, help="what --json has written for the suite")
    report = beside(recorded(), parser.parse_args(arguments).run)
    write(FIGURES, json.dumps(report, indent=1) + "\n")
    write(PAGE, page_with(PAGE.read_text(encoding="utf-8"), report))
    write(PICTURE, picture_of(report))
    return 0


def beside(record: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """Return what is on record once a run is: all that is new, and the rest as it was.

    Raises:
        SystemExit: The run was a quick look.
    """
    if run["quick"]:
        raise SystemExit("a quick look is not put on record: run it without --quick")
    if run["benches"].keys() >= record["benches"].keys():
        return run
    apart = {**record.get("apart", {}), **dict.fromkeys(run["benches"], run["machine"])}
    return {**record, "benches": {**record["benches"], **run["benches"]}, "apart": apart}


def page_with(page: str, report: Mapping[str, Any]) -> str:
    """Return a page with the figures of a run between its markers."""

    def figures(block: re.Match[str]) -> str:
        begin, name, end = block.groups()
        if name == "machine":
            lines = [_measured_on(report["machine"])]
            for bench, machine in report.get("apart", {}).items():
                lines += ["", f"`{bench}` apart from the others: {_measured_on(machine)}"]
        else:
            lines = list(_rows(report["benches"][name]))
        return "\n".join([begin, *lines, "", end])

    return _BLOCK.sub(figures, page)


def _measured_on(machine: dict[str, Any]) -> str:
    return _table.machine_line(machine).replace("\n", ". ") + "."


def picture_of(report: Mapping[str, Any]) -> str:
    """Return a picture of what hits in memory cost, here and elsewhere."""
    hits = [
        {**result, "label": result["group"], "passed": result["group"] == OURS or None}
        for result in report["benches"]["rivals"]
        if result["case"].endswith("f(x)")
    ]
    return picture(sorted(hits, key=lambda result: float(result["ratio"]["median"])))


def _rows(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the tables of a benchmark: of its ratios, and of its claims."""
    timed = [result for result in results if "ratio" in result]
    claims = [result for result in results if "restated" in result]
    if timed:
        yield "| | what | floor | bar | ratio | takes |"
        yield "| --- | --- | --- | --- | --- | --- |"
    for result in timed:
        ratio, bar = result["ratio"], "" if result["bar"] is None else f"{result['bar']:g}"
        spread = f"{ratio['min']:.2f}{_EN_DASH}{ratio['max']:.2f}"
        figures = f"{bar} | **{ratio['median']:.2f}** ({spread})"
        takes = _table.time(result["subject_ns"]["median"])
        what = f"{result['group']} | {result['case']}, {result['clock']} | {result['floor_name']}"
        yield f"| {what} | {figures} | {takes} |"
    if timed and claims:
        yield ""
    if claims:
        yield "| | what | bar | measured |"
        yield "| --- | --- | --- | --- |"
    for result in claims:
        claim = Claim(**{field.name: result[field.name] for field in fields(Claim)})
        what = f"{claim.classical} | {claim.words}"
        yield f"| {what} | {claim.requirement} | **{claim.figure}** |"


def recorded() -> dict[str, Any]:
    """Return what is on record."""
    report: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return report
