"""All mutations."""

from typing import Final

from tests.mutations.evidence import EVIDENCE
from tests.mutations.fences import FENCES
from tests.mutations.looks import LOOKS
from tests.mutations.mutation import Mutation

MUTATIONS: Final[tuple[Mutation, ...]] = (*FENCES, *LOOKS, *EVIDENCE)
"""Every safeguard that is taken out, in the order of the table."""
