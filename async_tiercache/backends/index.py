"""The index: finds the slots whose keys' texts nobody holds.

Pure. A dict would need the texts, which are most of what an entry takes. A slot that is found by
the arguments of a call tells its text when it is asked, so here it only stands in a row, linked
through the slots themselves, with four bits of the text's hash that spare asking nearly all
others. The table grows and shrinks by a row at a time (linear hashing, Litwin 1980), so that
nothing moves more than a row of slots.
"""

from typing import Any, Final

_PER_ROW: Final = 1  # slot, on average at most
_EMPTY: Final = 4
"""So many rows for a slot are too many; far from one, so that few rows come and go."""
_SIGN: Final = 0xF0


def sign_of(hashed: int) -> int:
    """Return four bits of a hash, in the upper half of a byte; its row tells nothing of them."""
    return hashed >> 32 & _SIGN


class Index:
    """Rows of slots.

    A slot has a `key`, whose `sign_of` is among the bits of `cold`, and leaves `link` to the row
    that it stands in.

    Attributes:
        length: How many slots are in it.
    """

    __slots__ = ("_mask", "_rows", "length")

    def __init__(self) -> None:
        self.length = 0
        self._rows: list[Any] = [None]
        # All bits are set that name a row; where one is not there yet, the one that it will be
        # split from stands for it, whose name has a bit less.
        self._mask = 0

    def find(self, text: str) -> Any:
        """Return the slot of a key, or `None`."""
        hashed, rows = hash(text), self._rows
        row = hashed & self._mask
        slot = rows[row if row < len(rows) else row & self._mask >> 1]
        if slot is not None:
            sign = hashed >> 32 & _SIGN
            while slot is not None and (slot.cold & _SIGN != sign or slot.key != text):
                slot = slot.link
        return slot

    def add(self, slot: Any, text: str) -> None:
        """Take in a slot, whose key is not there."""
        rows = self._rows
        self.length += 1
        if self.length > _PER_ROW * len(rows):
            self._grow()
        row = hash(text) & self._mask
        if row >= len(rows):
            row &= self._mask >> 1
        slot.link, rows[row] = rows[row], slot

    def remove(self, slot: Any, text: str) -> None:
        """Take out a slot that is in it."""
        rows = self._rows
        row = hash(text) & self._mask
        if row >= len(rows):
            row &= self._mask >> 1
        self.length -= 1
        before = rows[row]
        if before is slot:
            rows[row] = slot.link
        else:
            while before.link is not slot:
                before = before.link
            before.link = slot.link
        slot.link = None
        while len(rows) > _EMPTY * self.length + 1:
            self._shrink()

    def some(self, row: int, count: int) -> tuple[list[Any], int]:
        """Return the slots of some rows from a place on, and the place behind them; 0 at the end.

        Args:
            row: The place.
            count: How many slots will do.
        """
        found: list[Any] = []
        while row < len(self._rows) and len(found) < count:
            slot = self._rows[row]
            while slot is not None:
                found.append(slot)
                slot = slot.link
            row += 1
        return found, row if row < len(self._rows) else 0

    def _grow(self) -> None:
        """Add one row, and move there what belongs into it; all that is in one other."""
        rows, new = self._rows, len(self._rows)
        if new > self._mask:
            self._mask = self._mask * 2 + 1
        old = new & self._mask >> 1
        slot, kept, moved = rows[old], None, None
        while slot is not None:
            after = slot.link
            if hash(slot.key) & self._mask == new:
                slot.link, moved = moved, slot
            else:
                slot.link, kept = kept, slot
            slot = after
        rows[old] = kept
        rows.append(moved)

    def _shrink(self) -> None:
        """Take away the last row, and put what is in it back to where it would have stayed."""
        rows = self._rows
        slot, last = rows.pop(), len(rows)
        half = self._mask >> 1
        if last == half + 1:
            self._mask = half
        old = last & half
        while slot is not None:
            after = slot.link
            slot.link, rows[old] = rows[old], slot
            slot = after
