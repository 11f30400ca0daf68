"""Our codecs keep the contract of `abc.Codec`, with and without an annotation."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from async_tiercache.abc import Codec
from async_tiercache.codecs import codec_for
from async_tiercache.testing.contracts import CodecContract
from tests.codecs.families import Account, Child, Item, Order, Point, Tree, User, same
from tests.codecs.test_typed_properties import plain


class TypedContract(CodecContract):
    """The contract over what an annotation describes."""

    def same(self, decoded: Any, value: Any) -> bool:
        """Compare all the way down, NaN and the fields that no equality looks at included."""
        return same(decoded, value)


class TestPlainData(TypedContract):
    """What msgpack and our extensions carry, without an annotation."""

    fingerprint = bytes.fromhex("39aab72454212e6c")

    def codec(self) -> Codec:
        """Return the codec of anything."""
        return codec_for(Any)

    def values(self) -> st.SearchStrategy[Any]:
        """Return plain data of every kind."""
        return plain

    def reshaped(self) -> Sequence[Codec]:
        """Return the same at another version."""
        return [codec_for(Any, schema_version="1")]


class TestModels(TypedContract):
    """Models of several families in containers."""

    fingerprint = bytes.fromhex("0f1c84a5db37ff07")

    def codec(self) -> Codec:
        """Return the codec."""
        return codec_for(dict[str, list[Order | Item | Point]])

    def values(self) -> st.SearchStrategy[Any]:
        """Return models."""
        users = st.builds(User, st.integers(), st.text(max_size=8), st.lists(st.text(max_size=4)))
        orders = st.builds(
            Order,
            total=st.decimals(allow_nan=True) | st.just(Decimal("1.0")),
            user=st.none() | users,
        )
        items = st.builds(Item, st.text(max_size=8), st.floats())
        points = st.builds(Point, st.integers(), st.integers())
        each = st.lists(orders | items | points, max_size=3)
        return st.dictionaries(st.text(max_size=4), each, max_size=3)

    def refused(self) -> st.SearchStrategy[Any]:
        """Return what is nearly of the type."""
        return super().refused() | st.sampled_from(
            [
                {"a": [User(1, "")]},
                {"a": (Point(1),)},
                {1: []},
                {"a": [Order(total=Decimal(1), user=Child(1, "", [], 2))]},
                {"\ud800": []},
            ]
        )

    def reshaped(self) -> Sequence[Codec]:
        """Return codecs of types that hold others."""
        return [
            codec_for(dict[str, list[Order | Item]]),
            codec_for(dict[str, tuple[Order | Item | Point, ...]]),
            codec_for(list[Account]),
        ]


class TestRecursiveModel(TypedContract):
    """A model that holds itself."""

    fingerprint = bytes.fromhex("9a98a28236df35b8")

    def codec(self) -> Codec:
        """Return the codec."""
        return codec_for(Tree)

    def values(self) -> st.SearchStrategy[Any]:
        """Return trees."""
        leaves = st.builds(Tree, st.integers())
        return st.recursive(
            leaves, lambda inner: st.builds(Tree, st.integers(), st.lists(inner, max_size=3))
        )

    def refused(self) -> st.SearchStrategy[Any]:
        """Return a tree that is its own child."""
        tree = Tree(1)
        tree.children.append(tree)
        return super().refused() | st.just(tree)

    def reshaped(self) -> Sequence[Codec]:
        """Return the codec of a forest."""
        return [codec_for(list[Tree])]
