"""Reads are judged by what was acknowledged in all processes, and by what was queued apart."""

from pathlib import Path
from typing import Literal

import pytest

from async_tiercache import Invalidated
from async_tiercache_integrations.cli.demo._measure import Tally
from async_tiercache_integrations.cli.demo._witness import Witness

LIMIT = 2.5


class Watch:
    """A clock that a test sets.

    Attributes:
        now: What it shows.
    """

    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        """Return what it shows."""
        return self.now


@pytest.fixture
def watch() -> Watch:
    """Return the clock by which updates are noted, at the time 10."""
    return Watch()


@pytest.fixture
def witnesses(tmp_path: Path, watch: Watch) -> list[Witness]:
    """The witnesses of two processes."""
    return [Witness(tmp_path / "boards", keys=4, limit=LIMIT, clock=watch) for _ in range(2)]


def report(l2: Literal["done", "queued"], *tags: str) -> Invalidated:
    return Invalidated((), l2, tags)


def judged(witness: Witness, started: float, **seen: int) -> Tally:
    """Return the tally of one read of versions; their keys are `k0`, `k1` and so on."""
    tally = Tally()
    expected = [witness.expected(int(name[1:])) for name in seen]
    witness.judge(tally, started, expected, list(seen.values()))
    assert tally.checked == 1
    return tally


def test_what_was_acknowledged_is_missed_in_both_processes(witnesses: list[Witness]) -> None:
    """In the own process it counts as such, too."""
    ours, theirs = witnesses
    ours.updated(Tally(), 0, 2, report("done", "user:1"))

    here, there = (judged(each, 11.0, k0=1) for each in witnesses)
    current = judged(theirs, 11.0, k0=2)

    assert [(each.old_own, each.old_other.count) for each in (here, there)] == [(1, 1), (0, 1)]
    assert (current.old_own, current.old_other.count) == (0, 0)


@pytest.mark.parametrize(("started", "past"), [(10.0 + LIMIT, 0), (12.6, 1)])
def test_read_past_the_bound_counts_from_the_acknowledgement_to_its_begin(
    witnesses: list[Witness], started: float, past: int
) -> None:
    """What the read itself took is no part of its age."""
    ours, theirs = witnesses
    ours.updated(Tally(), 0, 2, report("done", "user:1"))

    tally = judged(theirs, started, k0=1)

    assert tally.past_bound == past
    assert tally.old_other.highest == started - 10.0


def test_the_oldest_of_several_versions_counts(witnesses: list[Witness], watch: Watch) -> None:
    """A value that shows two rows is as old as the one that it misses for longer."""
    ours, theirs = witnesses
    ours.updated(Tally(), 1, 2, report("done", "user:1"))
    watch.now = 12.0
    ours.updated(Tally(), 0, 2, report("done", "user:1"))

    tally = judged(theirs, 13.0, k0=1, k1=1)

    assert (tally.old_other.count, tally.old_other.highest, tally.past_bound) == (1, 3.0, 1)


def test_what_was_queued_is_acknowledged_to_its_own_process_only(witnesses: list[Witness]) -> None:
    """Others may find the old value in Redis: that is counted, and not held against the bound."""
    ours = witnesses[0]
    writer = Tally()
    ours.updated(writer, 0, 2, report("queued", "user:1"))

    here, there = (judged(each, 20.0, k0=1) for each in witnesses)

    assert (writer.updates, writer.queued) == (1, 1)
    assert here.old_own == 1
    assert (there.old_own, there.old_other.count, there.past_bound) == (0, 0, 0)
    assert (there.old_queued.count, there.old_queued.highest) == (1, 10.0)


@pytest.mark.parametrize("tag", ["user:1", "*"])
def test_what_was_queued_is_acknowledged_when_redis_confirms_it(
    witnesses: list[Witness], watch: Watch, tag: str
) -> None:
    """By its own name, or as a part of everything; its age counts from there."""
    ours, theirs = witnesses
    ours.updated(Tally(), 0, 2, report("queued", "user:1"))
    watch.now = 15.0
    ours.confirm(report("done", tag))

    tally = judged(theirs, 16.0, k0=1)

    assert (tally.old_other.count, tally.old_other.highest, tally.past_bound) == (1, 1.0, 0)
    assert tally.old_queued.count == 0


def test_confirmation_of_something_else_acknowledges_nothing(witnesses: list[Witness]) -> None:
    """What is still queued stays so."""
    ours, theirs = witnesses
    ours.updated(Tally(), 0, 2, report("queued", "user:1"))

    ours.confirm(report("done", "user:2"))

    assert judged(theirs, 16.0, k0=1).old_other.count == 0
