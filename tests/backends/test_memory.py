"""L1: what is kept, for how long, in what room, and what is gone at once."""

import gc
import math
import sys
import weakref
from typing import Any

import pytest

from async_tiercache._entry import Entry, Header
from async_tiercache._family import Aliases
from async_tiercache._options import L1
from async_tiercache._statistics import Counts
from async_tiercache.backends.memory import MemoryStore
from async_tiercache.backends.slot import NOWHERE, Slot, Standing
from tests.backends.family import family_of
from tests.backends.sizes import HEAD_BEYOND

FAMILY = family_of()
HEADER = Header(
    entry_id=bytes(range(16)),
    created_at=1_700_000_000.123456,
    fresh_until=1_700_000_060.123456,
    stale_until=1_700_000_360.123456,
    load_seconds=0.0625,  # of as many digits as a frame has
    fingerprint=FAMILY.codec.fingerprint,
)


def put(
    store: MemoryStore,
    key: str,
    *,
    value: Any = None,
    size: int = 1,
    ttl: float = 10,
    now: float = 0,
    standing: Standing = NOWHERE,
) -> Slot | None:
    """Put a value that is served for `ttl` and dead after twice that."""
    return store.put(
        key,
        FAMILY,
        Entry(value, HEADER, size),
        soft_deadline=now + ttl,
        deadline=now + 2 * ttl,
        now=now,
        standing=standing,
    )


def aliases_of(text: str) -> Aliases:
    """Return aliases whose arguments all stand for one key."""
    return Aliases({}, lambda _: text)


def kept(store: MemoryStore, key: str, **options: Any) -> Slot:
    slot = put(store, key, **options)
    assert slot is not None
    return slot


@pytest.fixture(autouse=True)
def _count_anew() -> None:
    FAMILY.counts = Counts()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(L1(max_entries=10, max_bytes=800))


@pytest.mark.parametrize("etag", ["", "v1", 'W/"ž"'])
@pytest.mark.parametrize("absent", [False, True])
def test_a_slot_holds_the_whole_header(store: MemoryStore, etag: str, absent: bool) -> None:
    """With an etag or without, of a value or of what is absent."""
    header = HEADER._replace(etag=etag, absent=absent)

    slot = store.put("k", FAMILY, Entry(None, header, 1), soft_deadline=1, deadline=1, now=0)

    assert slot is not None
    assert slot.header == header


def test_what_a_hit_does_not_read_takes_96_bytes(store: MemoryStore) -> None:
    """One byte more would take sixteen: that is how memory is given out."""
    slot = put(store, "k")

    assert slot is not None
    assert sys.getsizeof(slot.cold) <= 96 + HEAD_BEYOND


def test_what_a_slot_has_itself_takes_112_bytes(store: MemoryStore) -> None:
    """One field more would take sixteen. What those of a function have alike they share."""
    one, other = kept(store, "one"), kept(store, "other")

    assert sys.getsizeof(one) <= 112
    assert one.group is other.group


def test_entries_share_their_soft_deadlines(store: MemoryStore) -> None:
    """Those that end at nearly one time end at one, which is earlier by a hundredth at most."""
    slots = [kept(store, f"k{i}", ttl=100 + i / 1000) for i in range(10)]

    assert len({id(slot.soft_deadline) for slot in slots}) == 1
    assert 99 <= slots[0].soft_deadline <= 100


@pytest.mark.parametrize("ttl", [0, -1, 5e-324, 0.0005, math.inf])
def test_a_soft_deadline_that_never_or_always_or_hardly_lies_ahead_stays(
    store: MemoryStore, ttl: float
) -> None:
    """There is nothing to round."""
    assert kept(store, "k", ttl=ttl, now=0).soft_deadline == ttl


def test_little_is_remembered_for_later_entries_to_share() -> None:
    """However many times and functions there are."""
    store = MemoryStore(L1(max_entries=10, max_bytes=800))
    for i in range(3000):
        family = family_of()
        entry, instant = Entry(None, HEADER, 1), 2.0**i if i < 1000 else 1.0 + i
        slot = store.put("k", family, entry, soft_deadline=instant, deadline=instant, now=0)
        assert slot is not None
        assert slot.family is family

    assert len(store._instants) <= 1000


@pytest.mark.parametrize("total", [0, 2**32 + 7])
def test_a_slot_holds_the_total_of_its_standing(store: MemoryStore, total: int) -> None:
    """However many invalidations there were."""
    standing = Standing(("tag",), total)

    slot = store.put(
        "k", FAMILY, Entry(None, HEADER, 1), soft_deadline=1, deadline=1, now=0, standing=standing
    )

    assert slot is not None
    assert slot.total == total


def test_what_no_frame_could_hold_is_oversized() -> None:
    """Sizes are held in four bytes."""
    store = MemoryStore(L1(max_entries=10, max_bytes="64GiB"))

    assert put(store, "k", size=2**32 - 1) is not None
    assert put(store, "k", size=2**32) is None


def test_a_slot_holds_what_was_put(store: MemoryStore) -> None:
    """Value, header, size and deadlines come back exactly."""
    value = object()

    slot = kept(store, "k", value=value, size=42, ttl=10, now=5)

    assert store.get("k", 5) is slot
    assert slot.value is value
    assert slot.header == HEADER
    assert (slot.size, slot.soft_deadline, slot.deadline) == (42, 15, 25)
    assert not slot.visited


def test_a_put_replaces_the_value_and_its_bytes(store: MemoryStore) -> None:
    """The last put wins and only its size counts."""
    put(store, "k", value="old", size=30)

    slot = kept(store, "k", value="new", size=20, ttl=3, now=1)

    assert store.get("k", 1) is slot
    assert (slot.value, slot.soft_deadline, slot.deadline) == ("new", 4, 7)
    assert (len(store), store.bytes) == (1, 20)


def test_a_put_takes_over_the_alias(store: MemoryStore) -> None:
    """A refreshed entry is found by the compiled call path without a new link."""
    aliases = aliases_of("k")
    store.link(kept(store, "k", value="old"), aliases, 1)

    put(store, "k", value="new")

    assert aliases.slots[1].value == "new"


def test_a_put_again_counts_as_a_use(store: MemoryStore) -> None:
    """A key that was reloaded was wanted: it outlives keys that were put once."""
    put(store, "k")
    put(store, "k")

    for i in range(50):
        put(store, f"once{i}")

    assert "k" in store.slots


def test_a_slot_past_its_soft_deadline_is_still_found(store: MemoryStore) -> None:
    """`get` leaves it to the caller what to do with an entry that is no longer fresh."""
    slot = put(store, "k", ttl=10)

    assert store.get("k", 19.9) is slot


def test_a_slot_is_gone_at_its_deadline(store: MemoryStore) -> None:
    """At the deadline a probe removes the slot and counts an expiry."""
    put(store, "k", ttl=10)

    assert store.get("k", 20) is None
    assert (len(store), store.bytes, FAMILY.counts.l1_expiries) == (0, 0, 1)


def test_a_key_that_was_never_put_is_not_there(store: MemoryStore) -> None:
    """A miss is no expiry."""
    assert store.get("k", 0) is None
    assert FAMILY.counts.l1_expiries == 0


def test_entries_are_bounded(store: MemoryStore) -> None:
    """The eleventh entry evicts one of ten."""
    for i in range(11):
        put(store, f"k{i}")

    assert (len(store), FAMILY.counts.l1_evictions) == (10, 1)


def test_bytes_are_bounded(store: MemoryStore) -> None:
    """Room is made until the new value fits."""
    for i in range(9):
        put(store, f"k{i}", size=100)

    assert (len(store), store.bytes, FAMILY.counts.l1_evictions) == (8, 800, 1)


def test_an_insert_never_evicts_itself() -> None:
    """Room is made before the new slot is queued, even in a store for one."""
    store = MemoryStore(L1(max_entries=1, max_bytes=800))

    for i in range(5):
        slot = put(store, f"k{i}", size=100)
        assert store.get(f"k{i}", 0) is slot


def test_a_larger_replacement_makes_room_among_the_others(store: MemoryStore) -> None:
    """A value that grows evicts others, not itself."""
    for i in range(8):
        put(store, f"k{i}", size=90)

    slot = put(store, "k0", size=100)
    put(store, "k1", size=100)
    put(store, "k2", size=100)

    assert store.get("k0", 0) is slot
    assert store.bytes <= 800


def test_a_value_above_an_eighth_of_the_bytes_is_not_kept(store: MemoryStore) -> None:
    """An oversized value is counted and evicts nothing."""
    put(store, "k")

    assert put(store, "large", size=101) is None
    assert (list(store.slots), FAMILY.counts.l1_oversized) == (["k"], 1)


def test_a_value_of_exactly_an_eighth_is_kept(store: MemoryStore) -> None:
    """The bound includes its end."""
    assert put(store, "k", size=100) is not None


def test_an_oversized_value_removes_the_one_before(store: MemoryStore) -> None:
    """The old value is no longer the key's value, so it must not be served."""
    put(store, "k", size=1)

    put(store, "k", size=101)

    assert store.get("k", 0) is None


def test_drop_says_whether_the_key_was_here(store: MemoryStore) -> None:
    """An invalidation removes the slot once."""
    put(store, "k")

    assert [store.drop("k"), store.drop("k")] == [True, False]
    assert (len(store), store.bytes) == (0, 0)


def remove_by_drop(store: MemoryStore) -> None:
    store.drop("k")


def remove_by_clear(store: MemoryStore) -> None:
    store.clear()


def remove_by_probe(store: MemoryStore) -> None:
    store.get("k", 1000)


def remove_by_eviction(store: MemoryStore) -> None:
    for i in range(10):
        put(store, f"other{i}")


def remove_by_hand(store: MemoryStore) -> None:
    for i in range(3):
        put(store, f"other{i}", now=1000)


def remove_by_oversize(store: MemoryStore) -> None:
    put(store, "k", size=101)


@pytest.mark.parametrize(
    "remove",
    [
        remove_by_drop,
        remove_by_clear,
        remove_by_probe,
        remove_by_eviction,
        remove_by_hand,
        remove_by_oversize,
    ],
)
def test_a_removed_slot_can_no_longer_be_hit(store: MemoryStore, remove: Any) -> None:
    """However a slot goes, its alias goes with it, and a kept reference is past its deadline."""
    slot, aliases = kept(store, "k"), aliases_of("k")
    store.link(slot, aliases, ("k",))

    remove(store)

    assert aliases.slots == {}
    assert slot.soft_deadline == -math.inf
    assert "k" not in store


def test_the_first_alias_of_a_slot_stays(store: MemoryStore) -> None:
    """A slot has one alias."""
    slot, first, second = kept(store, "k"), aliases_of("k"), aliases_of("k")
    store.link(slot, first, 1)

    store.link(slot, second, 1)

    assert (first.slots, second.slots) == ({1: slot}, {})


def test_the_first_slot_of_an_alias_stays(store: MemoryStore) -> None:
    """An alias that two keys claim (1 and True are one dict key) is not taken away."""
    one, true, aliases = kept(store, "1"), kept(store, "true"), aliases_of("1")
    store.link(one, aliases, 1)

    store.link(true, aliases, True)
    store.drop("true")

    assert aliases.slots == {1: one}


def test_a_removed_slot_gets_no_alias(store: MemoryStore) -> None:
    """A link that comes too late does nothing."""
    slot, aliases = kept(store, "k"), aliases_of("k")
    store.drop("k")
    put(store, "k")

    store.link(slot, aliases, 1)

    assert aliases.slots == {}


def test_nobody_holds_the_text_of_a_key_that_an_alias_tells(store: MemoryStore) -> None:
    """The slot is found by it nevertheless, as long as it is there."""
    slot, aliases = kept(store, "k"), aliases_of("k")

    store.link(slot, aliases, 1)

    assert (store.slots, slot.named, slot.key) == ({}, False, "k")
    assert store.find("k") is store.get("k", 0) is slot
    assert ("k" in store, "other" in store, len(store)) == (True, False, 1)
    assert store.drop("k")
    assert (store.find("k"), store.index.length) == (None, 0)


def test_a_key_that_its_alias_does_not_tell_is_held(store: MemoryStore) -> None:
    """As a long one, which was shortened: it must be found whatever the arguments make of it."""
    slot, aliases = kept(store, "k"), aliases_of("another")

    store.link(slot, aliases, 1)

    assert (store.slots, slot.named, aliases.slots) == ({"k": slot}, True, {1: slot})


def test_a_slot_holds_its_text_once_a_call_by_key_has_come(store: MemoryStore) -> None:
    """Until it is linked again, when it is filled anew for example."""
    slot, aliases = kept(store, "k"), aliases_of("k")
    store.link(slot, aliases, 1)

    store.name(slot)
    store.name(slot)

    assert (store.slots, store.index.length, aliases.slots) == ({"k": slot}, 0, {1: slot})
    store.link(slot, aliases, 1)
    assert (store.slots, store.index.length, aliases.slots) == ({}, 1, {1: slot})


def test_a_slot_that_loses_its_alias_holds_its_text(store: MemoryStore) -> None:
    """A value under other tags is not for the function that the alias is of."""
    slot, aliases = kept(store, "k", standing=Standing(("tag",))), aliases_of("k")
    store.link(slot, aliases, 1)

    assert kept(store, "k") is slot

    assert (store.slots, store.index.length, aliases.slots) == ({"k": slot}, 0, {})


def test_all_slots_are_seen_some_at_a_time(store: MemoryStore) -> None:
    """Those that hold their texts and the others, each once, and then all over again."""
    for i in range(9):
        slot = kept(store, f"k{i}")
        if i % 2:
            store.link(slot, aliases_of(f"k{i}"), i)

    for _ in range(2):
        seen, place = list[Slot](), 0
        while True:
            some, place = store.some(place, 2)
            seen += some
            if not place:
                break

        assert sorted(slot.key for slot in seen) == [f"k{i}" for i in range(9)]
    assert MemoryStore(L1()).some(0, 2) == ([], 0)


@pytest.mark.parametrize("visited", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("capacity", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("filled", [0.3, 0.6, 1.0])
def test_no_expired_entry_is_left_after_twice_as_many_inserts(
    capacity: int, filled: float, visited: bool
) -> None:
    """The hand meets every expired slot within two inserts per entry that fits."""
    store = MemoryStore(L1(max_entries=capacity, max_bytes="1MiB"))
    for i in range(math.ceil(capacity * filled)):
        kept(store, f"old{i}", ttl=10).visited = visited

    for i in range(2 * capacity):
        put(store, f"new{i % max(1, capacity // 2)}", ttl=10, now=1000)

    assert not [key for key in store.slots if key.startswith("old")]


def use_and_drop(store: MemoryStore) -> None:
    store.slots["hot"].visited = True
    store.drop("hot")


def probe_past_the_deadline(store: MemoryStore) -> None:
    store.get("hot", 1000)


@pytest.mark.parametrize("go", [use_and_drop, probe_past_the_deadline])
def test_a_wanted_key_that_had_to_go_comes_back_for_long(store: MemoryStore, go: Any) -> None:
    """A popular key that expires or is invalidated need not prove itself again."""
    for key in ["hot", "a", "b", "c"]:
        put(store, key)
    go(store)
    put(store, "hot", ttl=10_000)

    for i in range(50):
        put(store, f"once{i}", now=1000)

    assert "hot" in store.slots


def test_expired_entries_go_before_live_ones() -> None:
    """A full store makes room among its expired slots first, and counts them as such."""
    store = MemoryStore(L1(max_entries=10, max_bytes=800))
    for i in range(10):
        put(store, f"old{i}", ttl=1)
    for i in range(5):
        put(store, f"new{i}", ttl=10, now=100)

    assert FAMILY.counts.l1_evictions == 0
    assert {f"new{i}" for i in range(5)} <= store.slots.keys()


def test_used_entries_survive_a_scan() -> None:
    """Keys read once pass through a tenth of the room."""
    store = MemoryStore(L1(max_entries=100, max_bytes="1MiB"))
    for i in range(100):
        kept(store, f"hot{i}").visited = True

    for i in range(1000):
        put(store, f"once{i}")

    assert sum(key.startswith("hot") for key in store.slots) >= 85


def test_removed_values_are_freed_without_the_collector() -> None:
    """A store that is cleared leaves no reference cycle behind: values go at once."""

    class Value:
        pass

    store = MemoryStore(L1(max_entries=100, max_bytes="1MiB"))
    values = [Value() for _ in range(150)]
    watched = [weakref.ref(value) for value in values]
    gc.disable()
    try:
        for i, value in enumerate(values):
            put(store, f"k{i}", value=value)
        del value
        values.clear()
        alive_while_full = sum(ref() is not None for ref in watched)
        store.clear()

        assert (alive_while_full, [ref() for ref in watched]) == (100, [None] * 150)
    finally:
        gc.enable()


def test_a_large_store_is_cleared_and_deallocated() -> None:
    """A hundred thousand linked slots are freed by clear, and without it by the collector."""
    before = _slots_alive()
    stores = [MemoryStore(L1(max_entries=100_000, max_bytes="1GiB")) for _ in range(2)]
    for store in stores:
        for i in range(100_000):
            put(store, f"k{i}")

    stores[0].clear()
    del store
    stores.clear()

    assert _slots_alive() <= before


def _slots_alive() -> int:
    gc.collect()
    return sum(type(thing) is Slot for thing in gc.get_objects())


def test_a_cleared_store_goes_on() -> None:
    """After clear the store keeps, evicts and expires as before."""
    store = MemoryStore(L1(max_entries=3, max_bytes=800))
    slots = store.slots
    for i in range(5):
        put(store, f"k{i}")

    store.clear()
    for i in range(5):
        put(store, f"k{i}")

    assert len(store) == 3
    assert store.slots is slots


def test_the_repr_shows_the_room_taken(store: MemoryStore) -> None:
    """`repr` is the debugging view; no keys, no values."""
    put(store, "k", value="secret", size=7)

    assert repr(store) == "<MemoryStore 1/10 entries, 7/800 bytes>"
