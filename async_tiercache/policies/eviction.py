"""Decide which entry makes room: S3-FIFO (Yang et al., SOSP 2023) with one visited bit.

Pure: a structure over nodes, without clock or I/O. A new node waits in a small queue; what is
re-used there moves to the main queue, what is not leaves, and only its fingerprint is remembered
for a while, so that it comes back to main. A hit sets `Node.visited` and moves nothing.
Called by `backends.memory`.

The paper's small queue holds a tenth of all. Here it grows while keys come back just after they
have left it, as where each is read a few times in a row and then never again, and shrinks while
they do not, as where popular keys are read for ever.
"""

from array import array
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

_SMALL_SHARE: Final = 10  # the small queue holds one node in so many at first,
_LEAST_SHARE: Final = 300  # one in so many at least,
_MOST_SHARE: Final = 2  # and one in so many at most
_GROWTH: Final = 16  # a key that was dropped too early outweighs so many that never came back
_CHANCES: Final = 64  # visited nodes passed over for one victim, so that no insert sweeps a queue


class Node:
    """What is queued; a store derives its entries from it.

    Attributes:
        visited: Whether it was used since it entered its queue; written by whoever uses it.
        key: The text that the node is remembered by after its eviction; the store has room for it,
        in_main: and for whether its queue is the main one.
    """

    __slots__ = ("next", "prev", "visited")

    key: Any  # a str
    in_main: Any  # a bool
    # The links of a node in a queue; one in no queue has none.
    prev: Any
    next: Any

    def __init__(self) -> None:
        self.visited = False


class Queue:
    """A doubly linked circle of nodes, closed by the queue itself: `next` is the newest."""

    __slots__ = ("length", "next", "prev")

    prev: Any
    next: Any

    def __init__(self) -> None:
        self.length = 0
        self.prev = self.next = self

    def push(self, node: Node) -> None:
        """Put a node that is in no queue in as the newest."""
        node.prev = self
        node.next = newest = self.next
        self.next = newest.prev = node
        self.length += 1

    def pull(self, node: Node) -> None:
        """Take a node out; its own links are left as they were."""
        node.prev.next = node.next
        node.next.prev = node.prev
        self.length -= 1


class Ghosts:
    """The fingerprints of the nodes remembered last, in a two-way table of fixed-width words.

    A word holds 16 bits of a hash and, below, 16 bits of when it was added, counted in ticks of so
    many additions that these bits go round in four windows or more. Two places are open to it and
    the older word makes room, so nothing is ever swept or moved.
    """

    __slots__ = ("_count", "_pairs", "_tick", "_words")

    _FINGERPRINT: Final = 0xFFFF_0000
    _TIME: Final = 0x0000_FFFF
    _TICKS: Final = 1 << 13  # in a window, at most

    def __init__(self) -> None:
        self._words = array("I")
        self._pairs = 0
        self._tick = 1
        self._count = 0

    @property
    def size_in_bytes(self) -> int:
        """How much memory the table takes."""
        return len(self._words) * self._words.itemsize

    def add(self, hashed: int, *, window: int) -> None:
        """Remember a hash; the table is made for, or grown to, a window of that many."""
        if len(self._words) < window:
            # To start empty costs a few re-used nodes a stay in the small queue; moving every word
            # would stop the caller.
            self._words = array("I", bytes(8 * window))
            self._pairs = window
            self._tick = window // self._TICKS + 1
        words, mask = self._words, self._TIME
        self._count += 1
        time = self._count // self._tick & mask
        place = hashed % self._pairs * 2
        if (time - words[place]) & mask < (time - words[place + 1]) & mask:
            place += 1
        words[place] = hashed >> 16 & self._FINGERPRINT | time

    def take(self, hashed: int, *, window: int) -> int | None:
        """Forget a hash.

        Returns:
            How many were added after it, to about a tick; `None` if it was not among the last
            `window`.
        """
        words = self._words
        if not words:
            return None
        place = hashed % self._pairs * 2
        fingerprint = hashed >> 16 & self._FINGERPRINT
        word = words[place]
        if word & self._FINGERPRINT != fingerprint:
            place += 1
            word = words[place]
            if word & self._FINGERPRINT != fingerprint:
                return None
        words[place] = 0
        tick = self._tick
        age = (self._count // tick - word & self._TIME) * tick
        return age if age < window else None


N = TypeVar("N", bound=Node)


class S3Fifo(Generic[N]):
    """Two FIFO queues and the ghosts of what left the small one."""

    __slots__ = ("_hand", "_main", "_room", "_small", "ghosts")

    def __init__(self) -> None:
        self._small = Queue()
        self._room = -1  # of the small queue, in nodes; not chosen before the first eviction
        self._main = Queue()
        self._hand: Any = self._small
        self.ghosts = Ghosts()

    def __len__(self) -> int:
        return self._small.length + self._main.length

    def __iter__(self) -> Iterator[N]:
        for queue in (self._small, self._main):
            node: Any = queue.next
            while node is not queue:
                yield node
                node = node.next

    def push(self, node: N, *, reused: bool) -> None:
        """Queue a node: as re-used if the caller or the ghosts say so, else to be seen.

        Args:
            node: A node in no queue, `in_main` not yet.
            reused: Whether its key is known to be wanted again.
        """
        node.visited = False
        window = self._small.length + self._main.length
        age = self.ghosts.take(hash(node.key), window=window)
        if age is not None and age < self._room:
            # A queue of twice the size would have held it.
            self._room += _GROWTH
        if age is not None or reused:
            node.in_main = True
            self._main.push(node)
        else:
            self._small.push(node)

    def remember(self, node: N) -> None:
        """Let the key of a queued node come back to main, if it does so before long."""
        self.ghosts.add(hash(node.key), window=len(self))

    def remove(self, node: N) -> None:
        """Take a node out."""
        if node is self._hand:
            self._hand = node.prev
        (self._main if node.in_main else self._small).pull(node)
        del node.prev, node.next

    def clear(self) -> None:
        """Take every node out; the ghosts stay."""
        for queue in (self._small, self._main):
            node = queue.next
            while node is not queue:
                older = node.next
                del node.prev, node.next
                node = older
        self._small, self._main = Queue(), Queue()
        self._hand = self._small

    def pop(self) -> tuple[N, str]:
        """Take out the node that makes room, there must be one; return it and its key."""
        small, main, chances = self._small, self._main, _CHANCES
        total = small.length + main.length
        room = total // _SMALL_SHARE if self._room < 0 else self._room
        room = max(total // _LEAST_SHARE, min(room, total // _MOST_SHARE))
        while True:
            queue = small if small.length > room or not main.length else main
            node: N = queue.prev
            if node is self._hand:
                self._hand = node.prev
            queue.pull(node)
            if not (node.visited and chances):
                break
            chances -= 1
            node.visited = False
            if queue is small:
                node.in_main = True
            main.push(node)
        key: str = node.key
        if queue is small:
            self._room = max(room - 1, 0)
            self.ghosts.add(hash(key), window=total)
        del node.prev, node.next
        return node, key

    def step(self) -> N | None:
        """Move the hand on by one node and return it, or `None` between the queues.

        The hand walks from the newest node to the oldest, against the flow, so that nodes pushed
        meanwhile do not lengthen its way. A node that `pop` passes over slips behind it, but only
        once unless it is used again.
        """
        ahead: Any = self._hand.next
        if ahead is self._small or ahead is self._main:
            self._hand = self._main if ahead is self._small else self._small
            return None
        node: N = ahead
        self._hand = node
        return node
