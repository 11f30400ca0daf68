"""Ask: what a process wants to know of L2 about one key, and the answer."""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, TypeAlias

from async_tiercache._basis import Basis
from async_tiercache._entry import Entry, Header
from async_tiercache._statistics import Counts
from async_tiercache.abc import NAMESPACE, Codec
from async_tiercache.tags import pair_of

What: TypeAlias = Literal[
    "entry", "nothing", "lease", "ours", "block", "damaged", "dead", "schema", "refused", "unknown"
]


class Found(NamedTuple):
    """What L2 holds for a key.

    Attributes:
        what: An entry; nothing; another process's lease, or one of ours that was taken when there
            was nothing; a writer's block; damaged bytes, or an
            entry that an invalidation has ended, to be replaced; an entry that is sound for others,
            to be left alone: of another schema or format, or compressed as only they can read it;
            nothing that may be served and no lease to be had, because L2 is full; or unknown,
            because L2 is out of reach or must not be believed.
        raw: The bytes, if there are any.
        entry: The entry, if it is one.
        refused: Why bytes that are there are of no use, if so.
    """

    what: What
    raw: bytes | None = None
    entry: Entry | None = None
    refused: str = ""


UNKNOWN: Final = Found("unknown")
REFUSED: Final = Found("refused")
NOTHING: Final = Found("nothing")


class Ask:
    """What is asked about one key, and the answer.

    Attributes:
        key: The key's text.
        found: The answer, once it is there.
        error: What a codec or the remote tier has raised that it must not.
    """

    __slots__ = ("_basis", "_codecs", "_counts", "error", "found", "key")

    def __init__(self, basis: Basis, counts: Counts | None, codecs: tuple[Codec, ...]) -> None:
        self.key = basis.key
        self._basis: Basis | None = basis
        self._codecs = codecs
        self._counts = counts
        self.found: Found | None = None
        self.error: Exception | None = None

    @property
    def basis(self) -> Basis:
        """What a value of the key rests on."""
        assert self._basis is not None
        return self._basis

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """Those that the value may be decoded by."""
        return self._codecs

    @property
    def counts(self) -> Counts | None:
        """Where what that takes is counted; `None` for who only looks.

        Nothing is counted then, and no observer is told.
        """
        return self._counts

    def settle(self, found: Found) -> None:
        """Give the answer."""
        self.found = found

    def fail(self, error: Exception) -> None:
        """Give an error instead."""
        self.error = error
        self.settle(UNKNOWN)

    def answer(self) -> Found:
        """Return the answer.

        Raises:
            Exception: What a codec or the remote tier has raised that it must not.
        """
        if self.error is not None:
            raise self.error
        return self.found or UNKNOWN


class States(dict[str, "bytes | None"]):
    """The states of tags.

    Attributes:
        unreached: Tags of which nothing is known, not even that they have no state.
        read_at: When they were read, by the remote tier's clock.
        namespace: What an entry carries of the namespace's, if there is evidence in it.
        learned: Whether the ledger knows the namespace's.
    """

    __slots__ = ("learned", "namespace", "read_at", "unreached")

    def __init__(self) -> None:
        self.unreached: frozenset[str] = frozenset()
        self.namespace: bytes | None = None
        self.read_at = 0.0
        self.learned = False

    def pairs(self, tags: Iterable[str]) -> tuple[tuple[str, bytes], ...] | None:
        """Return tags with what an entry carries of them; `None` if one has no evidence."""
        pairs: list[tuple[str, bytes]] = []
        for tag in tags:
            pair = pair_of(self.get(tag))
            if pair is None:
                return None
            pairs.append((tag, pair))
        return tuple(pairs)

    def leave_open(self, header: Header) -> bool:
        """Return whether they do not tell if an entry is alive."""
        return NAMESPACE in self.unreached or any(tag in self.unreached for tag, _ in header.tags)
