"""L1 against a plain dict: any order of operations, every structure checked after each."""

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from async_tiercache._entry import Entry, Header
from async_tiercache._family import Aliases
from async_tiercache._options import L1
from async_tiercache.backends.index import Index
from async_tiercache.backends.memory import MemoryStore
from async_tiercache.backends.slot import Slot
from async_tiercache.policies.eviction import Queue
from tests.backends.family import family_of

KEYS = st.sampled_from([f"k{i}" for i in range(16)])
FINGERPRINT = family_of().codec.fingerprint
HEADER = Header(b"0123456789abcdef", 1.0, 2.0, 3.0, 0.5, FINGERPRINT)


def nodes_of(queue: Queue, *, main: bool) -> list[Slot]:
    """Return the nodes of a queue, newest first, after checking every link of the circle."""
    nodes: list[Slot] = []
    newer: Any = queue
    node: Any = queue.next
    while node is not queue:
        assert node.prev is newer
        assert node.in_main is main
        nodes.append(node)
        newer, node = node, node.next
    assert queue.prev is newer
    assert queue.length == len(nodes)
    return nodes


def check_rows(index: Index) -> None:
    """Assert that each slot of an index stands in the row of its key, and once."""
    found = list[int]()
    for row, newest in enumerate(index._rows):
        slot = newest
        while slot is not None:
            assert index.find(slot.key) is slot
            place = hash(slot.key) & index._mask
            assert place == row or (place >= len(index._rows) and place & index._mask >> 1 == row)
            found.append(id(slot))
            slot = slot.link
    assert len(set(found)) == len(found) == index.length


def check(store: MemoryStore) -> None:
    """Assert everything that holds between two operations of a store."""
    queues = store._queues
    queued = nodes_of(queues._small, main=False) + nodes_of(queues._main, main=True)
    assert queued == list(store)
    assert len(queued) == len(store) == len(queues) <= store.bounds.max_entries
    assert store.bytes == sum(slot.size for slot in queued) <= store.bounds.max_bytes
    assert all(store.find(slot.key) is slot for slot in queued)
    assert all((store.slots.get(slot.key) is slot) is slot.named for slot in queued)
    assert len(store.slots) + store.index.length == len(queued)
    check_rows(store.index)
    assert any(queues._hand is place for place in [queues._small, queues._main, *queued])
    assert queues.ghosts.size_in_bytes <= 8 * store.bounds.max_entries


class StoreMachine(RuleBasedStateMachine):
    """The model knows the last put of every key; the store may hold fewer, never other ones."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.model: dict[str, tuple[int, int, float]] = {}
        self.removed: list[Slot] = []
        self.names: dict[int, str] = {}
        self.aliases = Aliases({}, self.names.__getitem__)
        self.serial = 0

    @initialize(entries=st.integers(1, 12), room=st.integers(8, 120))
    def build(self, entries: int, room: int) -> None:
        self.store = MemoryStore(L1(max_entries=entries, max_bytes=room))
        self.family = family_of()

    @rule(
        key=KEYS,
        size=st.integers(0, 16),
        soft=st.floats(0, 3),
        grace=st.floats(0, 3),
    )
    def put(self, key: str, size: int, soft: float, grace: float) -> None:
        before = {slot.key: slot for slot in self.store}
        counts = (
            self.family.counts.l1_evictions,
            self.family.counts.l1_expiries,
            self.family.counts.l1_oversized,
        )
        self.serial += 1
        deadline = self.now + soft + grace

        slot = self.store.put(
            key,
            self.family,
            Entry(self.serial, HEADER, size),
            soft_deadline=self.now + soft,
            deadline=deadline,
            now=self.now,
        )

        gone = [old for old in before.values() if self.store.find(old.key) is not old]
        too_large = size * 8 > self.store.bounds.max_bytes
        assert (slot is None) == too_large
        if slot is None:
            assert gone == ([before[key]] if key in before else [])
            assert self.family.counts.l1_oversized == counts[2] + 1
            self.model.pop(key, None)
        else:
            assert self.store.find(key) is slot
            assert self.now + soft * 0.99 - 1e-9 <= slot.soft_deadline <= self.now + soft
            assert self.family.counts.l1_evictions + self.family.counts.l1_expiries - sum(
                counts[:2]
            ) == len(gone)
            self.model[key] = (self.serial, size, deadline)
        self.removed += gone

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        before = self.store.find(key)

        slot = self.store.get(key, self.now)

        if before is not None:
            assert (slot is None) == (self.now >= self.model[key][2])
        if slot is None and before is not None:
            self.removed.append(before)
        if slot is not None:
            slot.visited = True

    @rule(key=KEYS)
    def drop(self, key: str) -> None:
        before = self.store.find(key)

        assert self.store.drop(key) == (before is not None)

        self.model.pop(key, None)
        if before is not None:
            self.removed.append(before)

    @rule(key=KEYS, table_key=st.integers(0, 3))
    def link(self, key: str, table_key: int) -> None:
        slot = self.store.find(key)
        if slot is None:
            return
        free = slot.table is None and table_key not in self.aliases.slots
        if free:
            self.names[table_key] = key

        self.store.link(slot, self.aliases, table_key)

        assert slot.named == (slot.table is None)
        if free:
            assert self.aliases.slots[table_key] is slot

    @rule(key=KEYS)
    def name(self, key: str) -> None:
        slot = self.store.find(key)
        if slot is not None:
            self.store.name(slot)
            assert self.store.slots[key] is slot

    @rule()
    def clear(self) -> None:
        self.removed += self.store

        self.store.clear()

        assert len(self.store) == 0
        self.model.clear()

    @rule(seconds=st.floats(0.1, 4))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def only_last_puts_are_kept(self) -> None:
        for slot in self.store:
            value, size, deadline = self.model[slot.key]
            assert (slot.value, slot.size, slot.deadline) == (value, size, deadline)
            assert slot.header == HEADER

    @invariant()
    def aliases_lead_to_live_slots(self) -> None:
        for table_key, slot in self.aliases.slots.items():
            assert (slot.table, slot.table_key) == (self.aliases.slots, table_key)
            assert self.store.find(slot.key) is slot

    @invariant()
    def removed_slots_cannot_be_hit(self) -> None:
        assert all(slot.soft_deadline == -math.inf for slot in self.removed)

    @invariant()
    def structure_holds(self) -> None:
        check(self.store)


StoreMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestStoreMachine = StoreMachine.TestCase
