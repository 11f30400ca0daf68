"""The figures as aligned text."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from async_tiercache_integrations.cli.demo._claims import Claim

_UNITS = ((1e6, "ms"), (1e3, "us"), (1.0, "ns"))
_COLUMNS = f"{'':<44} {'clock':<5} {'floor':>9} {'takes':>9}  {'ratio [min .. max]':<22} {'bar':>4}"


def machine_line(machine: dict[str, Any]) -> str:
    """Return one line that says what the figures were measured on."""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    pgo = machine.get("pgo")  # older records do not say
    build = "" if pgo is None else " (PGO)" if pgo else " (built without --enable-optimizations)"
    python = f"{machine['implementation']} {machine['python']}{build}"
    cores = f"{machine['cores']} cores, load {machine['load']}"
    return f"{python} on {machine['processor']}, {cores}\n{packages}"


def group(name: str, measured: dict[str, Any]) -> str:
    """Return the table of one group: its ratios, then its claims."""
    timed = [result for result in measured["results"] if "ratio" in result]
    claims = [result for result in measured["results"] if "restated" in result]
    floors = dict.fromkeys(result["floor_name"] for result in timed)
    named = f"; floor: {'; '.join(floors)}" if timed else ""
    seconds = f", {measured['seconds']:.0f} s" if "seconds" in measured else ""
    title = f"-- {name} ({measured['loop']}{seconds}){named}"
    table = [_COLUMNS, *map(_row, timed)] if timed else []
    return "\n".join([title, *table, *_verdicts(claims), ""])


def _verdicts(claims: list[dict[str, Any]]) -> Iterator[str]:
    classical = ""
    for result in claims:
        claim = Claim(**{field.name: result[field.name] for field in fields(Claim)})
        if claim.classical != classical:
            classical = claim.classical
            yield f"{classical}:"
        columns = f"{claim.requirement:>11} {claim.figure:>10}  {claim.verdict}"
        yield f"  {claim.restated:<68} {columns}"
        if claim.beside:
            yield f"    ({claim.beside})"


def _row(result: dict[str, Any]) -> str:
    ratio = result["ratio"]
    spread = f"{ratio['median']:.2f} [{ratio['min']:.2f} .. {ratio['max']:.2f}]"
    bar = "" if result["bar"] is None else f"{result['bar']:g}"
    verdict = {True: "pass", False: "MISS", None: ""}[result["passed"]]
    floor = time(result["floor_ns"]["median"])
    takes = time(result["subject_ns"]["median"])
    clock = result["clock"]
    return f"{result['case']:<44} {clock:<5} {floor:>9} {takes:>9}  {spread:<22} {bar:>4} {verdict}"


def time(nanoseconds: float) -> str:
    """Return a time in the unit that suits it."""
    size, unit = next((pair for pair in _UNITS if nanoseconds >= pair[0]), _UNITS[-1])
    return f"{nanoseconds / size:.{0 if unit == 'ns' else 1}f} {unit}"
