"""The mutation table fits the tree; `python -m tests.mutations` is what runs it."""

from collections.abc import Sequence

import pytest

from tests.core.simulation.known import KNOWN
from tests.mutations.mutation import Edit, Mutation, MutationError
from tests.mutations.report import PAGE
from tests.mutations.run import ROOT
from tests.mutations.table import MUTATIONS


def ids_of(mutations: Sequence[Mutation]) -> list[str]:
    return [mutation.name for mutation in mutations]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=ids_of(MUTATIONS))
def test_its_text_occurs_once_and_what_is_left_can_be_read(mutation: Mutation) -> None:
    """Whoever changes a safeguard changes its mutation, too."""
    for edit in mutation.edits:
        mutated = edit.mutated(ROOT)

        compile(mutated, edit.file, "exec")
        assert mutated != (ROOT / edit.file).read_text(encoding="utf-8")


@pytest.mark.parametrize("mutation", MUTATIONS, ids=ids_of(MUTATIONS))
def test_its_named_tests_exist(mutation: Mutation) -> None:
    """Or a note says why there are none."""
    assert mutation.named or mutation.note
    for test in mutation.named:
        path, _, name = test.partition("[")[0].partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), test


def test_their_names_are_different() -> None:
    """They are how one is chosen."""
    assert len(set(ids_of(MUTATIONS))) == len(MUTATIONS)


def test_known_schedules_are_named_after_them() -> None:
    """So that each says what it is there for."""
    assert {known.name for known in KNOWN} <= {*ids_of(MUTATIONS)}


def test_the_page_has_them_all() -> None:
    """It is written anew when one is added."""
    page = PAGE.read_text(encoding="utf-8")

    assert [name for name in ids_of(MUTATIONS) if f"`{name}`" not in page] == []


def test_a_text_that_is_not_there_is_told() -> None:
    """The table must not go stale unseen."""
    stale = Edit("async_tiercache/_version.py", before="no such text", after="")

    with pytest.raises(MutationError, match="occurs 0 times"):
        stale.mutated(ROOT)
