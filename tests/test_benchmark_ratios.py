"""The benchmark of hit ratios: its ways to evict are what they are called."""

from functools import lru_cache
from pathlib import Path

import pytest

from benchmarks._evictions import EVICTIONS, Lru, best_share, share_of
from benchmarks._traces import GENERATED, files, zipf
from benchmarks.ratios import command, missed, row_of

READS = 5_000


@pytest.mark.parametrize("trace", GENERATED)
def test_nobody_is_better_than_the_best(trace: str) -> None:
    """Nor does anybody keep more than there is room for, which would show here."""
    row = row_of(trace, GENERATED[trace](READS), 100)

    assert row.shares.keys() == EVICTIONS.keys()
    assert max(row.shares.values()) <= row.best


def test_lru_is_that_of_the_standard_library() -> None:
    """Hit for hit."""
    trace = zipf(0.9, READS)
    known = lru_cache(maxsize=50)(lambda key: key)
    for key in trace:
        known(key)

    assert share_of(Lru(50), trace) == known.cache_info().hits / READS


@pytest.mark.parametrize("name", EVICTIONS)
def test_what_has_room_is_read_once(name: str) -> None:
    """Nothing is evicted before the room is full; an admission filter may need a few reads."""
    rounds = 20
    trace = list(range(50)) * rounds

    share = share_of(EVICTIONS[name](100), trace)

    assert share == 1 - 1 / rounds
    assert best_share(trace, 100) == share


def test_the_best_keeps_what_is_needed_next() -> None:
    """Worked out by hand: with room for two, both 1 and 2 are there when they return."""
    assert best_share([1, 2, 3, 1, 2], 2) == 2 / 5


def test_traces_of_ones_own_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key on each line, whatever it is."""
    (tmp_path / "orders.txt").write_text("\n".join(f"order {key}" for key in zipf(1.0, 500)))

    command(["--quick", "--traces", str(tmp_path)])

    assert "orders.txt" in capsys.readouterr().out


def test_a_trace_without_a_key_is_told(tmp_path: Path) -> None:
    """By its name; keys may be any bytes."""
    (tmp_path / "bytes.txt").write_bytes(b"\xff\n\xfe\n\xff\n")
    assert list(files(tmp_path)) == [("bytes.txt", [0, 1, 0])]

    (tmp_path / "empty.txt").touch()
    with pytest.raises(SystemExit, match=r"empty\.txt holds no key"):
        list(files(tmp_path))


def test_a_row_far_below_lru_misses_a_bar() -> None:
    """And so does a low mean, so that the bars can fail."""
    row = row_of("replaced", GENERATED["replaced at once"](READS), 1_000)
    worse = row.shares["LRU"] - 0.04

    low = type(row)(row.trace, row.size, row.best, {**row.shares, "ours": worse}, 0)

    assert any("below LRU" in bar for bar in missed([low]))
