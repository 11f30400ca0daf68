"""Users read by Zipf's law, in the stated mix, and see who acknowledged what."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache_integrations.cli.demo._workload import MIX, Board, Seen, Zipf, kind_of

COUNTS = st.integers(1, 500)


@given(COUNTS)
def test_each_rank_has_one_id_and_each_id_one_rank(count: int) -> None:
    """Popularity is spread over the ids without gaps and without collisions."""
    zipf = Zipf(count)

    ids = {zipf.id_of(rank) for rank in range(1, count + 1)}

    assert ids == set(range(1, count + 1))


@given(COUNTS)
def test_rank_k_is_drawn_with_a_chance_proportional_to_1_over_k(count: int) -> None:
    """Over an even grid of chances each rank comes up as often as Zipf's law says."""
    zipf, draws = Zipf(count), 20_000

    drawn = Counter(zipf.rank((number + 0.5) / draws) for number in range(draws))

    harmonic = sum(1 / rank for rank in range(1, count + 1))
    for rank in range(1, count + 1):
        assert abs(drawn[rank] - draws / rank / harmonic) <= 1.001


@given(COUNTS, st.floats(0, 1, exclude_max=True))
def test_every_chance_gives_an_id_that_exists(count: int, u: float) -> None:
    """No draw falls outside the table."""
    assert 1 <= Zipf(count).draw(u) <= count


def test_operations_come_in_the_stated_mix() -> None:
    """The mix adds up to all, and an even grid of chances gives exactly that mix."""
    drawn = Counter(kind_of((number + 0.5) / 1_000) for number in range(1_000))

    assert dict(drawn) == {kind: round(share * 1_000) for kind, share in MIX}


@pytest.fixture
def boards(tmp_path: Path) -> list[Board]:
    """Two processes' views of one board."""
    return [Board(tmp_path / "board", keys=3) for _ in range(2)]


def test_another_process_sees_an_acknowledged_version(boards: list[Board]) -> None:
    """The board is shared memory."""
    writer, reader = boards

    writer.acknowledge(1, 2, now=10.0)

    assert [reader.version(key) for key in range(3)] == [0, 2, 0]


def test_a_late_acknowledgement_does_not_take_back_a_newer_one(boards: list[Board]) -> None:
    """Two updates may be acknowledged in the other order than they were committed in."""
    writer, reader = boards

    writer.acknowledge(0, 3, now=10.0)
    writer.acknowledge(0, 2, now=11.0)

    assert reader.version(0) == 3


def test_age_counts_from_the_first_version_that_was_missed(boards: list[Board]) -> None:
    """A hot row's old copy is as old as the first update it lacks, not as the last."""
    writer, reader = boards
    for version, now in ((2, 10.0), (3, 11.0), (4, 12.0)):
        writer.acknowledge(0, version, now)

    ages = [reader.age(0, seen, acknowledged=4, started=12.5) for seen in (1, 2, 3)]

    assert ages == [2.5, 1.5, 0.5]


def test_age_skips_an_update_that_is_not_acknowledged_yet(boards: list[Board]) -> None:
    """A slot that still holds an update of long ago is not taken for the one to come."""
    writer, reader = boards
    writer.acknowledge(0, 2, now=10.0)
    pending = 2 + Board._KEPT
    writer.acknowledge(0, pending + 1, now=50.0)

    age = reader.age(0, seen=pending - 1, acknowledged=pending + 1, started=50.25)

    assert age == 0.25


def test_only_the_first_reader_of_a_key_is_told_so(tmp_path: Path) -> None:
    """It does not matter which process read it."""
    one, other = (Seen(tmp_path / "seen", keys=2) for _ in range(2))

    told = [one.first(0), other.first(0), one.first(0), other.first(1), one.first(1)]

    assert told == [True, False, False, True, False]
    one.close()
    other.close()
