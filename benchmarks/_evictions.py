"""Ways to evict, each told of one read after the other; and the best that could be done."""

import heapq
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from async_tiercache import L1
from async_tiercache._entry import Entry, Header
from async_tiercache._family import Family
from async_tiercache._options import Limits
from async_tiercache.backends.memory import MemoryStore
from async_tiercache.codecs import codec_for


class Eviction(ABC):
    """Keys in memory, up to a number.

    Args:
        size: The number.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def read(self, key: int) -> bool:
        """Return whether a key is in memory, where it is from here on."""


class Lru(Eviction):
    """The one that was used last longest ago goes."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._keys: OrderedDict[int, None] = OrderedDict()

    def read(self, key: int) -> bool:
        """Move the key to the end."""
        hit = key in self._keys
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self.size:
            self._keys.popitem(last=False)
        return hit


class Lfu(Eviction):
    """The one that was used least often goes; among those the one that came first."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._uses: dict[int, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, int]] = []
        self._clock = 0

    def read(self, key: int) -> bool:
        """Count the key."""
        hit = key in self._uses
        self._clock += 1
        if not hit and len(self._uses) >= self.size:
            while True:
                count, since, victim = heapq.heappop(self._heap)
                if self._uses.get(victim) == (count, since):
                    del self._uses[victim]
                    break
        count, since = self._uses.get(key, (0, self._clock))
        self._uses[key] = count + 1, since
        heapq.heappush(self._heap, (count + 1, since, key))
        return hit


class Sieve(Eviction):
    """SIEVE (Zhang et al., NSDI 2024): a hand passes over those that were used since it came by."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._used: dict[int, bool] = {}
        self._newer: dict[int, int | None] = {}
        self._oldest: int | None = None
        self._newest: int | None = None
        self._older: dict[int, int | None] = {}
        self._hand: int | None = None

    def read(self, key: int) -> bool:
        """Mark the key."""
        if key in self._used:
            self._used[key] = True
            return True
        if len(self._used) >= self.size:
            self._evict()
        self._used[key] = False
        self._older[key], self._newer[key] = self._newest, None
        if self._newest is None:
            self._oldest = key
        else:
            self._newer[self._newest] = key
        self._newest = key
        return False

    def _evict(self) -> None:
        key = self._oldest if self._hand is None else self._hand
        assert key is not None
        while self._used[key]:
            self._used[key] = False
            newer = self._newer[key]
            key = self._oldest if newer is None else newer
            assert key is not None
        older, newer = self._older.pop(key), self._newer.pop(key)
        if older is None:
            self._oldest = newer
        else:
            self._newer[older] = newer
        if newer is None:
            self._newest = older
        else:
            self._older[newer] = older
        self._hand = newer
        del self._used[key]


class Arc(Eviction):
    """ARC (Megiddo and Modha, FAST 2003): recency and frequency share the room as ghosts say."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._once: OrderedDict[int, None] = OrderedDict()
        self._often: OrderedDict[int, None] = OrderedDict()
        self._once_gone: OrderedDict[int, None] = OrderedDict()
        self._often_gone: OrderedDict[int, None] = OrderedDict()
        self._share = 0.0

    def read(self, key: int) -> bool:
        """Follow the paper's four cases."""
        once, often = self._once, self._often
        if key in once or key in often:
            once.pop(key, None)
            often.pop(key, None)
            often[key] = None
            return True
        gone_once, gone_often = self._once_gone, self._often_gone
        if key in gone_once:
            step = max(1.0, len(gone_often) / len(gone_once))
            self._share = min(self._share + step, self.size)
            self._replace(key)
            del gone_once[key]
            often[key] = None
            return False
        if key in gone_often:
            self._share = max(self._share - max(1.0, len(gone_once) / len(gone_often)), 0.0)
            self._replace(key)
            del gone_often[key]
            often[key] = None
            return False
        if len(once) + len(gone_once) == self.size:
            if len(once) < self.size:
                gone_once.popitem(last=False)
                self._replace(key)
            else:
                once.popitem(last=False)
        else:
            total = len(once) + len(often) + len(gone_once) + len(gone_often)
            if total >= self.size:
                if total == 2 * self.size:
                    gone_often.popitem(last=False)
                self._replace(key)
        once[key] = None
        return False

    def _replace(self, key: int) -> None:
        once = self._once
        over = len(once) > self._share or (key in self._often_gone and len(once) == self._share)
        if once and (over or not self._often):
            self._once_gone[once.popitem(last=False)[0]] = None
        elif self._often:
            self._often_gone[self._often.popitem(last=False)[0]] = None


class WTinyLfu(Eviction):
    """W-TinyLFU (Einziger et al., 2017): a small window, and a main part that counts decide on.

    With counts that are exact and halved now and then, where the paper has a sketch.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._window: OrderedDict[int, None] = OrderedDict()
        self._trial: OrderedDict[int, None] = OrderedDict()
        self._kept: OrderedDict[int, None] = OrderedDict()
        self._window_size = max(1, size // 100)
        self._kept_size = max(1, (size - self._window_size) * 4 // 5)
        self._counts: Counter[int] = Counter()
        self._counted = 0

    def read(self, key: int) -> bool:
        """Count the key, and let the window's oldest compete with the main part's."""
        self._count(key)
        for part in (self._window, self._kept):
            if key in part:
                part.move_to_end(key)
                return True
        if key in self._trial:
            del self._trial[key]
            self._kept[key] = None
            if len(self._kept) > self._kept_size:
                self._trial[self._kept.popitem(last=False)[0]] = None
            return True
        self._window[key] = None
        if len(self._window) > self._window_size:
            self._admit(self._window.popitem(last=False)[0])
        return False

    def _admit(self, candidate: int) -> None:
        if len(self._trial) + len(self._kept) < self.size - self._window_size:
            self._trial[candidate] = None
            return
        part = self._trial or self._kept
        victim = next(iter(part))
        if self._counts[candidate] > self._counts[victim]:
            del part[victim]
            self._trial[candidate] = None

    def _count(self, key: int) -> None:
        self._counts[key] = min(self._counts[key] + 1, 15)
        self._counted += 1
        if self._counted >= 10 * self.size:
            self._counted //= 2
            halved = {each: count // 2 for each, count in self._counts.items()}
            self._counts = Counter({each: count for each, count in halved.items() if count})


class Ours(Eviction):
    """L1 as it is."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.store = MemoryStore(L1(max_entries=size))
        codec = codec_for(int)
        self._family = Family("row", Limits.of(), codec)
        self._header = Header(b"\0" * 16, 0.0, 1.0, 1.0, 0.0, codec.fingerprint)

    def read(self, key: int) -> bool:
        """Do what a call does."""
        text = f"row:{key}"
        slot = self.store.get(text, 0.0)
        if slot is not None:
            slot.visited = True
            return True
        entry = Entry(key, self._header, 9)
        self.store.put(text, self._family, entry, soft_deadline=1.0, deadline=1.0, now=0.0)
        return False


EVICTIONS: Final[dict[str, Callable[[int], Eviction]]] = {
    "ours": Ours,
    "LRU": Lru,
    "LFU": Lfu,
    "ARC": Arc,
    "SIEVE": Sieve,
    "W-TinyLFU": WTinyLfu,
}
"""By name, what makes memory for so many keys."""


def share_of(eviction: Eviction, trace: Sequence[int]) -> float:
    """Return the share of reads that memory answers."""
    return sum(map(eviction.read, trace)) / len(trace)


def best_share(trace: Sequence[int], size: int) -> float:
    """Return the share that nobody can exceed: what is needed last goes (Belady, 1966).

    That may be what has just come, as for those who need not take everything in.
    """
    following = [inf] * len(trace)
    last: dict[int, int] = {}
    for number in range(len(trace) - 1, -1, -1):
        following[number] = last.get(trace[number], inf)
        last[trace[number]] = number
    held: dict[int, float] = {}
    heap: list[tuple[float, int]] = []
    hits = 0
    for key, needed in zip(trace, following, strict=True):
        hits += key in held
        held[key] = needed
        heapq.heappush(heap, (-needed, key))
        while len(held) > size:
            negative, victim = heapq.heappop(heap)
            if held.get(victim) == -negative:
                del held[victim]
    return hits / len(trace)
