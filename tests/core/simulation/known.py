"""Known schedules: each is there for one safeguard, which drawn schedules reach too seldom.

With all safeguards each keeps every promise; when `tests/mutations` takes out the safeguard that it
is named after, it breaks one. They are spelled out, so they stay what they are when kinds of steps
are added.
"""

from typing import Final

from tests.core.simulation.known_evidence import EVIDENCE
from tests.core.simulation.known_fences import FENCES
from tests.core.simulation.known_looks import LOOKS
from tests.core.simulation.spelled import Known

KNOWN: Final[tuple[Known, ...]] = (*FENCES, *LOOKS, *EVIDENCE)
"""All of them, in the order of the table of safeguards."""
