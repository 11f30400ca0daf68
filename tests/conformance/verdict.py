"""Whether a run of the suite is as expected, and what it found, section by section."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conformance.suite import Case, Kind, Result, State

_EXPECTED: Final = Path(__file__).with_name("expected.json")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a profile is to reach.

    Attributes:
        excused: The required tests that do not pass, each with the reason.
        optional: The optional ones that do.
        missed: Those that do not, each with the reason.
    """

    excused: dict[str, str]
    optional: frozenset[str]
    missed: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Row:
    """A section of the suite: how many tests of each kind have passed, and how many there are."""

    section: str
    passed: Mapping[Kind, int]
    there: Mapping[Kind, int]


def expected_of(state: State, profile: str) -> Expected:
    """Return what is on record for a state of the suite and a profile."""
    found = json.loads(_EXPECTED.read_text())[state][profile]
    return Expected(found["excused"], frozenset(found["optional"]), found["missed"])


def record(state: State, profile: str, optional: Collection[str]) -> None:
    """Put the optional tests that pass on record."""
    found = json.loads(_EXPECTED.read_text())
    of_profile = found[state][profile]
    of_profile["optional"] = sorted(optional)
    for name in of_profile["missed"].keys() & set(optional):
        del of_profile["missed"][name]
    _EXPECTED.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def doubtful(cases: Iterable[Case], results: Mapping[str, Result], expected: Expected) -> list[str]:
    """Return the tests that should have passed, and those for whose sake they count as failed.

    Some have seconds, which are over too soon on a busy machine: alone they may pass.
    """
    found: set[str] = set()
    for case in cases:
        needed = case.kind == "required" and case.name not in expected.excused
        if needed or case.name in expected.optional:
            name = case.name
            while results[name].outcome == "depends on a failed one":
                found.add(name)
                name = results[name].message
            if results[name].outcome != "passed":
                found.add(name)
    return sorted(found)


def faults_of(
    cases: Iterable[Case], results: Mapping[str, Result], expected: Expected
) -> list[str]:
    """Return what is not as expected, a sentence each."""
    faults: list[str] = []
    unknown = expected.excused.keys() | expected.optional
    for case in cases:
        name, result = case.name, results[case.name]
        unknown = unknown - {name}
        passed, because = result.outcome == "passed", f"{result.outcome}: {result.message}"
        if case.kind == "required" and not passed and name not in expected.excused:
            faults.append(f"{name} is required, and {because}")
        elif case.kind == "required" and passed and name in expected.excused:
            faults.append(f"{name} passes: it needs no excuse")
        elif case.kind == "optimal" and not passed and name in expected.optional:
            faults.append(f"{name} has passed before, and {because}")
    return [*faults, *(f"{name} is no test of the suite" for name in sorted(unknown))]


def passing(cases: Iterable[Case], results: Mapping[str, Result], kind: Kind) -> list[str]:
    """Return the tests of a kind that pass."""
    return [
        case.name for case in cases if case.kind == kind and results[case.name].outcome == "passed"
    ]


def rows_of(cases: Iterable[Case], results: Mapping[str, Result]) -> list[Row]:
    """Return one row for each section, and one for all."""
    passed: dict[str, dict[Kind, int]] = {}
    there: dict[str, dict[Kind, int]] = {}
    for case in cases:
        for section in (case.section, "All"):
            for counted in (passed, there):
                counted.setdefault(section, {"required": 0, "optimal": 0, "check": 0})
            there[section][case.kind] += 1
            passed[section][case.kind] += results[case.name].outcome == "passed"
    sections = [*(section for section in there if section != "All"), "All"]
    return [Row(section, passed[section], there[section]) for section in sections]
