"""All mutations."""

from typing import Final

from tests.mutations.evidence import EVIDENCE
from tests.mutations.fences import FENCES
from tests.mutations.looks import LOOKS
from tests.mutations.mutation import Mutation
from tests.mutations.texts import TEXTS

MUTATIONS: Final[tuple[Mutation, ...]] = (*FENCES, *LOOKS, *EVIDENCE, *TEXTS)
"""Every safeguard that is taken out, in the order of the table."""
