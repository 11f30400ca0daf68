"""What a run of the conformance suite is held to."""

from pathlib import Path
from typing import get_args

import pytest

from tests.conformance.suite import Case, Result, State, results_of, suite_in
from tests.conformance.table import markdown_of, put_into, text_of
from tests.conformance.verdict import Expected, doubtful, expected_of, faults_of, passing, rows_of

CASES = [
    Case("must", "One", "required", ()),
    Case("should", "One", "optimal", ()),
    Case("does", "Two", "check", ()),
]
PASSED = Result("passed")
FAILED = Result("failed", "Response 2 comes from cache")
ALL = {case.name: PASSED for case in CASES}


@pytest.mark.parametrize(
    ("failing", "expected", "fault"),
    [
        ("must", Expected({}, frozenset()), "must is required, and failed: Response 2"),
        ("should", Expected({}, frozenset({"should"})), "should has passed before, and failed"),
        ("does", Expected({"must": "because"}, frozenset()), "must passes: it needs no excuse"),
        ("does", Expected({"gone": "because"}, frozenset()), "gone is no test of the suite"),
    ],
    ids=["required", "optional on record", "stale excuse", "unknown"],
)
def test_what_is_not_as_expected_is_told(failing: str, expected: Expected, fault: str) -> None:
    """One sentence, with the test's name."""
    (told,) = faults_of(CASES, {**ALL, failing: FAILED}, expected)

    assert told.startswith(fault)


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ("must", Expected({"must": "because"}, frozenset())),
        ("should", Expected({}, frozenset())),
        ("does", Expected({}, frozenset({"should"}))),
    ],
    ids=["excused", "optional not on record", "a check"],
)
def test_what_is_expected_is_no_fault(failing: str, expected: Expected) -> None:
    """A check has no right answer."""
    assert faults_of(CASES, {**ALL, failing: FAILED}, expected) == []


def test_what_a_failure_rests_on_is_in_doubt_too() -> None:
    """It is run again with it; what is excused, or only asked, is not."""
    cases = [
        *CASES,
        Case("rests", "Two", "required", ("does",)),
        Case("not", "Two", "required", ()),
    ]
    said = {"must": True, "should": True, "does": ["Assertion", "no"], "rests": True, "not": True}

    results = results_of(cases, {**said, "not": ["Setup", "retry"]})

    assert results["rests"] == Result("depends on a failed one", "does")
    assert doubtful(cases, results, Expected({"not": "because"}, frozenset())) == ["does", "rests"]


def test_tables_count_passed_tests_by_section() -> None:
    """A section without tests of a kind has an empty cell."""
    results = {**ALL, "should": FAILED}
    rows = rows_of(CASES, results)

    expected = Expected({"must": "because"}, frozenset(), {"should": "so"})
    page = markdown_of(rows, CASES, results, expected)

    assert (
        "| One | 1 / 1 | 0 / 1 |  |\n| Two |  |  | 1 / 1 |\n| All | 1 / 1 | 0 / 1 | 1 / 1 |" in page
    )
    assert "| `must` | because |" in page
    assert page.endswith("| `should` | so |\n")
    assert text_of(rows).splitlines()[1].split() == ["One", "1", "/", "1", "0", "/", "1"]
    assert passing(CASES, results, "optimal") == []


def test_page_is_renewed_between_its_markers(tmp_path: Path) -> None:
    """The rest of it stays."""
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- end of one -->\nb\n")

    put_into(page, "one", "new\n")

    assert page.read_text() == "a\n<!-- one -->\nnew\n<!-- end of one -->\nb\n"


@pytest.mark.parametrize(
    ("folder", "state", "engine"),
    [("client", "0.4.5", "."), ("test-engine", "main", "test-engine")],
)
def test_a_suite_is_known_by_where_its_engine_is(
    tmp_path: Path, folder: str, state: str, engine: str
) -> None:
    """The release of npm has it beside its tests, the repository in a folder of its own."""
    (tmp_path / folder).mkdir()

    suite = suite_in(tmp_path)

    assert (suite.state, suite.engine) == (state, engine)


@pytest.mark.parametrize("state", get_args(State))
@pytest.mark.parametrize("profile", ["rfc9111", "origin-safe"])
def test_each_excuse_has_a_reason(profile: str, state: State) -> None:
    """It is a sentence."""
    expected = expected_of(state, profile)
    reasons = [*expected.excused.values(), *expected.missed.values()]

    assert reasons
    assert all(reason.endswith(".") for reason in reasons)
