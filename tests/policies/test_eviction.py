"""S3-FIFO: what makes room, what is promoted, what is remembered."""

import bisect
import heapq
import itertools
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.policies.eviction import Ghosts, Node, S3Fifo


class Item(Node):
    """A node that has room for its key and the one bit."""

    __slots__ = ("in_main", "key")

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.in_main = False


def filled(keys: Sequence[str]) -> tuple[S3Fifo[Item], dict[str, Item]]:
    """Return queues with a node per key, pushed in order."""
    queues: S3Fifo[Item] = S3Fifo()
    nodes = {key: Item(key) for key in keys}
    for node in nodes.values():
        queues.push(node, reused=False)
    return queues, nodes


def names(start: int, count: int) -> list[str]:
    return [f"k{i}" for i in range(start, start + count)]


def in_main(queues: S3Fifo[Item], node: Item) -> bool:
    queued, node_of = False, queues._main.next
    while node_of is not queues._main:
        queued |= node_of is node
        node_of = node_of.next
    assert queued == node.in_main
    return queued


def test_the_oldest_unused_node_makes_room() -> None:
    """Without any use the queue is first in, first out."""
    queues, _ = filled(names(0, 5))

    assert [queues.pop()[1] for _ in range(5)] == names(0, 5)


def test_a_used_node_is_promoted_instead_of_evicted() -> None:
    """One use while in the small queue moves a node to main when its turn comes."""
    queues, nodes = filled(names(0, 5))
    nodes["k0"].visited = True

    assert queues.pop()[1] == "k1"
    assert in_main(queues, nodes["k0"])
    assert not nodes["k0"].visited


def test_a_key_evicted_lately_comes_back_to_main() -> None:
    """A key whose ghost is known was dropped too early: it skips the small queue."""
    queues, _ = filled(names(0, 20))
    again = Item(queues.pop()[1])

    queues.push(again, reused=False)

    assert in_main(queues, again)


def test_a_key_evicted_long_ago_comes_back_as_new() -> None:
    """Ghosts reach back as many evictions as there are nodes."""
    queues, _ = filled(names(0, 20))
    first = queues.pop()[1]
    for key in names(20, 40):
        queues.push(Item(key), reused=False)
        queues.pop()
    again = Item(first)

    queues.push(again, reused=False)

    assert not in_main(queues, again)


def test_keys_that_come_back_soon_make_the_small_queue_larger() -> None:
    """And those that never do let it shrink again, to a three-hundredth of all."""
    queues, _ = filled(names(0, 1_200))
    fresh = (f"n{i}" for i in itertools.count())
    sizes = []
    for back in (False, True, False):
        for _ in range(1_200):
            gone = queues.pop()[1]
            queues.push(Item(gone if back else next(fresh)), reused=False)
        sizes.append(queues._room)

    assert sizes[0] == 1_200 // 300 - 1
    assert sizes[1] > 20 * sizes[0]
    assert sizes[2] == sizes[0]


def test_a_removed_node_leaves_no_ghost() -> None:
    """What was invalidated was not evicted: it comes back as new."""
    queues, nodes = filled(names(0, 20))
    queues.pop()
    queues.remove(nodes["k5"])
    again = Item("k5")

    queues.push(again, reused=False)

    assert not in_main(queues, again)


def test_a_node_out_of_the_queues_holds_no_other() -> None:
    """A removed node keeps no neighbour alive."""
    queues, nodes = filled(names(0, 3))

    queues.remove(nodes["k1"])

    assert not any(hasattr(nodes["k1"], link) for link in ("prev", "next"))


def test_one_scan_does_not_flush_what_is_used() -> None:
    """A thousand keys read once pass through the small queue; used nodes stay."""
    queues, nodes = filled(names(0, 100))
    for node in nodes.values():
        node.visited = True
    for key in names(1000, 1000):
        queues.pop()
        queues.push(Item(key), reused=False)

    assert sum(hasattr(node, "next") for node in nodes.values()) >= 85


def test_one_eviction_passes_over_a_bounded_number_of_used_nodes() -> None:
    """With every node in use an eviction clears few bits, not all of them."""
    queues, nodes = filled(names(0, 1000))
    for node in nodes.values():
        node.visited = True

    queues.pop()

    assert sum(not node.visited for node in nodes.values()) <= 64


def test_clear_takes_every_node_out_and_unlinks_it() -> None:
    """After clear the queues are empty and no node holds another."""
    queues, nodes = filled(names(0, 10))

    queues.clear()

    assert len(queues) == 0
    assert not any(hasattr(node, "next") for node in nodes.values())


def test_ghosts_take_no_memory_before_the_first_eviction() -> None:
    """The table is made when it is first needed."""
    ghosts = Ghosts()

    assert not ghosts.take(hash("k"), window=10)
    assert ghosts.size_in_bytes == 0


def test_ghosts_take_a_bounded_share_of_memory() -> None:
    """However many hashes are added, the table has two words of four bytes per node."""
    ghosts = Ghosts()

    for i in range(10_000):
        ghosts.add(hash(f"k{i}"), window=1000)

    assert ghosts.size_in_bytes == 2 * 1000 * 4


def test_a_ghost_is_taken_once() -> None:
    """A ghost that was found is forgotten."""
    ghosts = Ghosts()
    ghosts.add(hash("k"), window=10)

    assert [ghosts.take(hash("k"), window=10), ghosts.take(hash("k"), window=10)] == [0, None]


def test_nearly_all_ghosts_of_the_window_are_known() -> None:
    """The two-way table loses few of the last hashes to collisions."""
    ghosts, draw = Ghosts(), random.Random(1)
    hashes = [draw.getrandbits(64) - 2**63 for _ in range(10_000)]
    for hashed in hashes:
        ghosts.add(hashed, window=1000)

    ages = [ghosts.take(hashed, window=1000) for hashed in hashes[-1000:]]
    known = sum(age is not None for age in ages)

    assert known >= 850
    assert {ghosts.take(hashed, window=1000) for hashed in hashes[:-1000]} == {None}


@pytest.mark.parametrize("window", [100, 1_000_000])
def test_the_time_of_ghosts_may_go_round(window: int) -> None:
    """Ghosts stay known over the end of the 16 bits that tell when they were added."""
    ghosts, draw = Ghosts(), random.Random(1)
    ghosts.add(0, window=window)
    tick = ghosts._tick
    ghosts._count = 2**16 * tick - 2
    hashes = [draw.getrandbits(64) - 2**63 for _ in range(3)]
    for hashed in hashes:
        ghosts.add(hashed, window=window)

    ages = [ghosts.take(hashed, window=window) for hashed in hashes]

    assert all(
        age is not None and abs(age - exact) <= tick
        for age, exact in zip(ages, [2, 1, 0], strict=True)
    )


def test_hardly_a_new_key_is_taken_for_a_ghost() -> None:
    """Sixteen bits of a hash are enough: a new key seldom has those of one that left."""
    ghosts, draw = Ghosts(), random.Random(1)
    for _ in range(4_000):
        ghosts.add(draw.getrandbits(64) - 2**63, window=1000)

    ages = [ghosts.take(draw.getrandbits(64) - 2**63, window=1000) for _ in range(20_000)]

    assert sum(age is not None for age in ages) <= 4


@given(
    actions=st.lists(
        st.tuples(st.sampled_from(["push", "pop", "remove", "visit"]), st.integers(0, 11))
    ),
    steps=st.integers(0, 5),
)
def test_the_hand_meets_every_node_that_stays(actions: list[tuple[str, int]], steps: int) -> None:
    """From any state, steps for every node and one per queue return each node."""
    queues: S3Fifo[Item] = S3Fifo()
    nodes: dict[int, Item] = {}
    for action, i in actions:
        if action == "push" and i not in nodes:
            nodes[i] = Item(str(i))
            queues.push(nodes[i], reused=False)
        elif action == "pop" and nodes:
            del nodes[int(queues.pop()[1])]
        elif action == "remove" and i in nodes:
            queues.remove(nodes.pop(i))
        elif action == "visit" and i in nodes:
            nodes[i].visited = True
        for _ in range(steps):
            queues.step()

    met = {queues.step() for _ in range(len(nodes) + 2)}

    assert met - {None} == set(nodes.values())


def zipf(exponent: float, objects: int, seed: int) -> Iterator[int]:
    """Yield object numbers, the i-th most popular with weight ``i ** -exponent``."""
    draw = random.Random(seed)
    weights = list(itertools.accumulate(i**-exponent for i in range(1, objects + 1)))
    while True:
        yield bisect.bisect(weights, draw.random() * weights[-1])


def with_scans(trace: Iterator[int]) -> Iterator[int]:
    """Yield a trace with 250 one-time keys after every 1,000 requests."""
    for once in itertools.count(10**6, 250):
        yield from itertools.islice(trace, 1000)
        yield from range(once, once + 250)


def visits(gap: int, seed: int) -> Iterator[int]:
    """Yield new keys, each of which comes back twice within a while, and then never."""
    draw, due = random.Random(seed), list[tuple[int, int]]()
    key = 0
    for now in itertools.count():
        if due and due[0][0] <= now:
            yield heapq.heappop(due)[1]
            continue
        key += 1
        yield key
        for part in (1, 2):
            heapq.heappush(due, (now + part * draw.randint(1, gap), key))


def lru_hits(trace: Sequence[int], room: int) -> int:
    kept: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in kept:
            hits += 1
            kept.move_to_end(key)
        else:
            kept[key] = None
            if len(kept) > room:
                kept.popitem(last=False)
    return hits


def s3_fifo_hits(trace: Sequence[int], room: int) -> int:
    queues: S3Fifo[Item] = S3Fifo()
    kept: dict[str, Item] = {}
    hits = 0
    for key in map(str, trace):
        node = kept.get(key)
        if node is not None:
            node.visited = True
            hits += 1
            continue
        if len(kept) == room:
            del kept[queues.pop()[1]]
        kept[key] = node = Item(key)
        queues.push(node, reused=False)
    return hits


@pytest.mark.parametrize("room", [30, 300], ids=["room-1%", "room-10%"])
@pytest.mark.parametrize(
    "trace",
    [
        pytest.param(lambda: zipf(0.7, 3000, seed=7), id="zipf-0.7"),
        pytest.param(lambda: zipf(0.9, 3000, seed=9), id="zipf-0.9"),
        pytest.param(lambda: zipf(1.1, 3000, seed=11), id="zipf-1.1"),
        pytest.param(lambda: with_scans(zipf(0.9, 3000, seed=13)), id="zipf-0.9-with-scans"),
        pytest.param(lambda: itertools.cycle(range(360)), id="loop"),
    ],
)
def test_hit_ratio_is_at_most_three_points_below_lru(
    trace: Callable[[], Iterator[int]], room: int
) -> None:
    """Over popularity, scans and loops S3-FIFO hits at least as often as LRU less 3 points."""
    requests = list(itertools.islice(trace(), 15_000))

    s3_fifo, lru = s3_fifo_hits(requests, room), lru_hits(requests, room)

    assert s3_fifo / len(requests) >= lru / len(requests) - 0.03


@pytest.mark.parametrize("gap", [10, 30, 100])
def test_visits_are_kept_for_as_long_as_they_last(gap: int) -> None:
    """Keys that come a few times in a while, and never again, are what LRU is best at."""
    requests = list(itertools.islice(visits(gap, seed=15), 30_000))

    s3_fifo, lru = s3_fifo_hits(requests, 300), lru_hits(requests, 300)

    assert s3_fifo / len(requests) >= lru / len(requests) - 0.03


def test_a_loop_a_little_larger_than_the_room_still_hits() -> None:
    """Where LRU never hits, the ghosts keep a part of the loop in main."""
    requests = list(itertools.islice(itertools.cycle(range(360)), 15_000))

    assert s3_fifo_hits(requests, 300) / len(requests) >= 0.4
