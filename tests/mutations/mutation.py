"""A mutation: one safeguard taken out of a copy of the tree, and what must notice that."""

from dataclasses import dataclass
from pathlib import Path


class MutationError(Exception):
    """A mutation does not fit the tree any more."""


@dataclass(frozen=True)
class Edit:
    """A change of a text that occurs exactly once.

    Attributes:
        file: Where it is, relative to the root of the tree.
        before: The text.
        after: What stands in its place.
    """

    file: str
    before: str
    after: str

    def mutated(self, root: Path) -> str:
        """Return what the file would hold then.

        Raises:
            MutationError: The text does not occur exactly once.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        count = text.count(self.before)
        if count != 1:
            raise MutationError(
                f"this text occurs {count} times in {self.file}, not once:\n{self.before}"
            )
        return text.replace(self.before, self.after)


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One safeguard, and how it is taken out.

    Attributes:
        name: What it is called on the command line.
        safeguard: What the safeguard does, in one sentence.
        guards: The promises that rest on it, by their numbers in docs/concepts/consistency.md.
        file: Where it is, relative to the root of the tree.
        before: Its text there, which occurs exactly once.
        after: What stands in its place when it is gone.
        named: The tests that must fail then, as node ids of pytest; at least one of them.
        cells: The faults of the bench that may notice; none if its traffic does not come there.
        simulated: The same in the simulator's own server, if it is the server's part.
        note: Why something does not notice that might be thought to.
    """

    name: str
    safeguard: str
    guards: str
    file: str
    before: str
    after: str
    named: tuple[str, ...] = ()
    cells: tuple[str, ...] = ()
    simulated: tuple[Edit, ...] = ()
    note: str = ""

    @property
    def edits(self) -> tuple[Edit, ...]:
        """All that is changed."""
        return (Edit(self.file, self.before, self.after), *self.simulated)

    def apply(self, root: Path) -> None:
        """Take the safeguard out of the tree under `root`.

        Raises:
            MutationError: A text does not occur exactly once.
        """
        for edit in self.edits:
            try:
                mutated = edit.mutated(root)
            except MutationError as error:
                raise MutationError(f"{self.name}: {error}") from None
            (root / edit.file).write_text(mutated, encoding="utf-8")
