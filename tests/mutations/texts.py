"""Safeguards of keys whose texts L1 does not hold."""

from typing import Final

from tests.mutations.mutation import Mutation

_MEMORY: Final = "async_tiercache/backends/memory.py"

TEXTS: Final = (
    Mutation(
        name="found-by-text",
        safeguard="What L1 holds is found by the text of its key, though nobody holds that.",
        guards="G1",
        file=_MEMORY,
        before="return self.index.find(key) if slot is None else slot",
        after="return slot",
        named=(
            "tests/core/test_texts.py::test_an_invalidation_elsewhere_reaches_it",
            "tests/core/test_texts.py::test_each_is_found_by_the_text_of_its_key",
        ),
    ),
    Mutation(
        name="told-text",
        safeguard="L1 holds the text of a key until what stands for it has told that very text.",
        guards="G1",
        file=_MEMORY,
        before="if mine.text(slot.table_key) == key:",
        after="if True:",
        named=("tests/core/test_texts.py::test_a_key_that_was_shortened_is_found",),
        note="The keys of simulated processes are short.",
    ),
)
