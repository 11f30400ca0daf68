"""The index of slots by texts that nobody holds: each is found and no other, by any hashes."""

from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.backends.index import Index, sign_of


class Text(str):
    """A text whose hash is given."""

    __slots__ = ("hashed",)

    hashed: int

    def __new__(cls, text: str, hashed: int) -> Self:
        """Return the text with its hash."""
        made = super().__new__(cls, text)
        made.hashed = hashed
        return made

    def __hash__(self) -> int:
        return self.hashed

    __eq__ = str.__eq__


class Item:
    """What an index needs of a slot."""

    def __init__(self, key: Text) -> None:
        self.key = key
        self.cold = sign_of(hash(key)) | 1 << 80 | 7
        self.link: Any = None


ALIKE = [Text(f"k{i}", 7) for i in range(9)]
"""All hashes are equal, so that the texts alone tell them apart."""
SAME_ROW = [Text(f"k{i}", i << 32) for i in range(9)]
"""All stand in one row for ever, by different signs."""
SPREAD = [Text(f"k{i}", i * 0x9E37_79B9_7F4A_7C15 % 2**61 - 2**60) for i in range(40)]
"""Some hashes are negative."""


@pytest.mark.parametrize("texts", [ALIKE, SAME_ROW, SPREAD], ids=["alike", "row", "spread"])
@given(data=st.data())
def test_each_is_found_and_no_other(texts: list[Text], data: st.DataObject) -> None:
    """Against a plain dict, in any order of adding and removing."""
    index, model = Index(), dict[str, Item]()

    for text in data.draw(st.lists(st.sampled_from(texts), max_size=80)):
        item = model.pop(text, None)
        if item is None:
            model[text] = item = Item(text)
            index.add(item, text)
        else:
            index.remove(item, text)
            assert item.link is None
        assert [index.find(text) for text in texts] == [model.get(text) for text in texts]
        assert index.length == len(model)


def test_some_go_round_all() -> None:
    """Who looks at some after some has seen each of them at the end, and begins anew."""
    index, seen, place = Index(), list[Item](), 0
    items = [Item(text) for text in SPREAD]
    for item in items:
        index.add(item, item.key)

    while True:
        found, place = index.some(place, 3)
        seen += found
        assert len(found) >= 3 or not place
        if not place:
            break

    assert len(seen) == len(items)
    assert set(seen) == set(items)


def test_it_grows_by_a_row_for_each() -> None:
    """No insert moves more than one row, and few share theirs."""
    index = Index()

    for number, text in enumerate(SPREAD):
        before = len(index._rows)
        index.add(Item(text), text)
        assert len(index._rows) - before <= 1
        assert len(index._rows) > number


def test_it_shrinks_when_most_have_gone() -> None:
    """Nothing of what once was there is left, and what stays is found."""
    index, items = Index(), [Item(Text(f"k{i}", hash(f"k{i}"))) for i in range(1000)]
    for item in items:
        index.add(item, item.key)
    while items:
        item = items.pop()
        index.remove(item, item.key)

        assert len(index._rows) <= 4 * len(items) + 1
        if len(items) % 50 == 0:
            assert all(index.find(each.key) is each for each in items)
    assert index._rows == [None]
    assert index._mask == 0
