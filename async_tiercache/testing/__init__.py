"""For tests, ours and yours: a clock you turn, an L2 in memory, an observer that remembers.

Nothing here is a mock: the cache runs as it is, over doubles that keep the promises of the seams.
The pytest fixtures are in `async_tiercache.testing.plugin`, the contracts of backends and codecs in
`async_tiercache.testing.contracts`; docs/testing.md shows them.
"""

from async_tiercache.testing._clock import FakeClock
from async_tiercache.testing._fate import CALM, NEVER, Fate, Journey
from async_tiercache.testing._faults import Faults
from async_tiercache.testing._recorder import Recorder
from async_tiercache.testing._server import MemoryServer
from async_tiercache.testing._settled import settled
from async_tiercache.testing._simulated_client import SimulatedClient
from async_tiercache.testing._simulated_clock import SimulatedClock
from async_tiercache.testing._simulator import Simulator

__all__ = [
    "CALM",
    "NEVER",
    "FakeClock",
    "Fate",
    "Faults",
    "Journey",
    "MemoryServer",
    "Recorder",
    "SimulatedClient",
    "SimulatedClock",
    "Simulator",
    "settled",
]
