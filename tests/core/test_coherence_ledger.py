"""The ledger by itself: what is remembered, for how long, and what follows when it is too much."""

import math
from math import inf

import pytest

from async_tiercache import _ledger
from async_tiercache._ledger import Ledger
from async_tiercache.abc import NAMESPACE, Invalidation

STATE = b"h" * 12 + b"s" * 12 + bytes(20)


def record(number: int, *keys: str, tags: tuple[str, ...] = ()) -> Invalidation:
    """Return a record with an id of its own."""
    return Invalidation(number.to_bytes(16, "big"), keys, tags)


def test_a_basis_holds_until_its_key_is_invalidated() -> None:
    """By whomever; a second time changes nothing."""
    ledger = Ledger()
    basis = ledger.basis("k")
    ledger.apply(record(1, "other"))
    assert ledger.holds(basis)

    ledger.apply(record(2, "k"))

    assert not ledger.holds(basis)
    assert ledger.holds(ledger.basis("k"))


@pytest.mark.parametrize(
    "happened",
    [record(1, "k"), record(1, tags=("t",)), record(1, tags=(NAMESPACE,))],
    ids=["key", "tag", "namespace"],
)
def test_a_moment_stays_what_it_was(happened: Invalidation) -> None:
    """What rests on it has begun then, whenever that is written down."""
    ledger = Ledger()
    moment = ledger.moment
    assert ledger.moment is moment
    assert ledger.holds(moment.basis("k", ("t",), ("t",), opened=False))

    ledger.apply(happened)

    assert ledger.moment is not moment
    assert not ledger.holds(moment.basis("k", ("t",), ("t",), opened=False))
    assert ledger.holds(ledger.moment.basis("k", ("t",), ("t",), opened=False))


def test_a_later_part_lends_no_ids_to_an_earlier_one_that_has_none() -> None:
    """They may be from after an invalidation that the earlier one was made before."""
    ledger = Ledger()
    page, early, late = ledger.basis("page"), ledger.basis("a", ("t",)), ledger.basis("b", ("t",))
    page.pairs[NAMESPACE] = late.pairs[NAMESPACE] = STATE[:24]
    late.pairs["t"] = STATE[:24]

    page.absorb(early)
    page.absorb(late)

    assert not page.pairs[NAMESPACE]


@pytest.mark.parametrize(
    "what", [record(1, tags=("t",)), record(1, tags=(NAMESPACE,)), Invalidation(b"i", pattern="*")]
)
def test_a_basis_holds_until_its_tags_are_invalidated(what: Invalidation) -> None:
    """Or everything, or a pattern, which may mean it."""
    ledger = Ledger()
    basis, under_another = ledger.basis("k", ("t",)), ledger.basis("k", ("u",))
    slots = [ledger.total("k", ("t",)), ledger.total("k", ("u",))]

    ledger.apply(what)

    assert not ledger.holds(basis)
    assert not ledger.may_join(basis)
    assert ledger.total("k", ("t",)) > slots[0]
    assert ledger.holds(under_another) == (what.tags == ("t",))


def test_a_gap_ends_whatever_was_begun_before_it() -> None:
    """And what is known of tags."""
    ledger = Ledger()
    basis = ledger.basis("k", ("t",))
    ledger.learn(basis, "t", STATE)
    assert ledger.known("t", 0.0) == STATE

    ledger.lapse()

    assert not ledger.holds(basis)
    assert ledger.known("t", 0.0) is None


def test_what_is_known_of_a_tag_needs_a_proof() -> None:
    """As what L1 holds does."""
    ledger = Ledger()
    ledger.learn(ledger.basis("k", ("t",)), "t", STATE)
    ledger.proof_deadline = 5.0

    assert ledger.known("t", 4.9) == STATE
    assert ledger.known("t", 5.0) is None


def test_an_epoch_that_has_ended_is_proven_no_more() -> None:
    """A hit asks the epoch of its entry, and no later proof brings that back."""
    ledger = Ledger()
    before = ledger.epoch
    ledger.proof_deadline = 5.0
    assert (before.deadline, before.over) == (5.0, None)

    ledger.apply(record(1, tags=("t",)))
    after, proven = ledger.epoch, ledger.proof_deadline
    ledger.proof_deadline = 9.0

    assert proven == 5.0
    assert (before.deadline, before.over) == (-inf, True)
    assert (after.deadline, after.over) == (9.0, None)


def test_what_was_asked_before_an_invalidation_is_not_learned_after_it() -> None:
    """The state is that from before."""
    ledger = Ledger()
    basis = ledger.basis("k", ("t",))
    ledger.apply(record(1, tags=("t",)))

    ledger.learn(basis, "t", STATE)

    assert ledger.known("t", 0.0) is None


def test_a_late_confirmation_does_not_end_a_later_invalidation() -> None:
    """L2 was told of the first; the second is still to come."""
    ledger = Ledger()
    first, second = record(1, "k", tags=("t",)), record(2, "k", tags=("t",))
    ledger.hold(first)
    ledger.hold(second)
    ledger.confirm(first)
    assert not ledger.may_ask("k")
    assert not ledger.may_ask("j", ("t",))

    ledger.confirm(second)

    assert ledger.may_ask("k", ("t",))


def test_a_late_confirmation_does_not_end_what_has_become_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More was pending than can be remembered."""
    monkeypatch.setattr(_ledger, "MAX_PENDING", 2)
    ledger = Ledger()
    last = record(3, "c")
    for each in (record(1, "a"), record(2, "b"), last):
        ledger.hold(each)

    ledger.confirm(last)

    assert not ledger.may_ask("z")
    everything, _ = ledger.batch(b"b" * 16, 10)
    assert everything.tags == (NAMESPACE,)


def test_a_doubt_becomes_an_invalidation_that_is_forgotten_here_too() -> None:
    """Of what is only in doubt this process has what is newer."""
    ledger = Ledger()
    ledger.doubt("k", b"d" * 16)
    assert ledger.batch(b"b" * 16, 10)[1].keys == ()

    ledger.hold(record(1, "k"))

    assert ledger.batch(b"c" * 16, 10)[1].keys == ("k",)


def test_recent_invalidations_are_forgotten_in_time() -> None:
    """Each at its own, whatever stands before it."""
    ledger = Ledger()
    ledger.remember(record(1, "a"), 0.0, 30.0)
    ledger.remember(record(2, "b"), 0.0, 5.0)

    assert [each.keys for each in ledger.recent(4.0)] == [("a",), ("b",)]
    assert [each.keys for each in ledger.recent(6.0)] == [("a",)]
    assert ledger.recent(30.0) == []


def test_what_was_forgotten_for_want_of_room_is_everything_as_long_as_it_is_recent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also when what was forgotten last was to be remembered for a shorter time."""
    monkeypatch.setattr(_ledger, "MAX_RECENT", 2)
    ledger = Ledger()
    for number, seconds in enumerate((30.0, 5.0, 31.0, 32.0)):
        ledger.remember(record(number, "k"), 0.0, seconds)

    assert [each.tags for each in ledger.recent(10.0)] == [(NAMESPACE,)]
    assert [each.tags for each in ledger.recent(inf)] == []


def test_an_invalidation_is_recent_whatever_came_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However many there have been, they do not shorten its time."""
    monkeypatch.setattr(_ledger, "MAX_RECENT", 2)
    ledger = Ledger()
    for number in range(3):
        ledger.remember(record(number, "k"), 0.0, 30.0)

    ledger.remember(record(3, "last"), 100.0, 30.0)

    assert [each.keys for each in ledger.recent(101.0)] == [("last",)]


def test_what_is_no_longer_recent_takes_no_memory() -> None:
    """A large one is gone with the next that is remembered."""
    ledger = Ledger()
    for number in range(3):
        ledger.remember(record(number, "k"), 0.0, 30.0)

    ledger.remember(record(3, "last"), 30.0, 30.0)

    assert not any(ledger.is_own(record(number).id) for number in range(3))
    assert ledger.is_own(record(3).id)


def test_a_message_is_known_as_ones_own_while_it_may_still_come() -> None:
    """By its record's id."""
    ledger = Ledger()
    ledger.remember(record(1, "k"), 0.0, 30.0)

    assert ledger.is_own(record(1).id)
    assert not ledger.is_own(record(2).id)


def test_pending_patterns_keep_l2_unasked() -> None:
    """Until the call that was made last has ended."""
    ledger = Ledger()
    matches = "user:1".__eq__
    first = ledger.hold_pattern(("", "user:*"), matches)
    second = ledger.hold_pattern(("", "user:*"), matches)
    ledger.confirm_pattern(("", "user:*"), first)
    assert not ledger.may_ask("user:1")
    assert ledger.may_ask("team:1")

    ledger.confirm_pattern(("", "user:*"), second)

    assert ledger.may_ask("user:1")


def test_more_patterns_than_are_remembered_are_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """L2 is not asked at all until that is told."""
    monkeypatch.setattr(_ledger, "MAX_PATTERNS", 1)
    ledger = Ledger()
    ledger.hold_pattern(("", "a*"), "a".__eq__)
    call_id = ledger.hold_pattern(("", "b*"), "b".__eq__)
    ledger.confirm_pattern(("", "b*"), call_id)

    assert not ledger.may_ask("z")


def test_a_floor_that_is_lowered_leaves_the_one_before() -> None:
    """What another load has shown counts on when this one's value was stored after all."""
    ledger = Ledger()
    ledger.raise_floor("key", 1.0)

    before = ledger.raise_floor("key", 2.0)
    ledger.lower_floor("key", 2.0, before)

    assert ledger.is_below_floor("key", 0.5)
    assert not ledger.is_below_floor("key", 1.5)
    ledger.lower_floor("key", 1.0, -math.inf)
    assert not ledger.is_below_floor("key", 0.5)
