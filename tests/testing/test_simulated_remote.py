"""SimulatedRemote keeps the promises of a remote tier while nothing goes wrong."""

import pytest

from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.abc import Remote
from async_tiercache.testing import Simulator
from async_tiercache.testing.contracts import RemoteContract


class TestSimulatedRemote(RemoteContract):
    """On real time, without delays."""

    @pytest.fixture
    def remote(self) -> Remote:
        """Return the remote."""
        return _remote_of(Simulator(SYSTEM_CLOCK))

    @pytest.fixture
    def lost(self) -> Remote:
        """Return one whose server is down."""
        simulator = Simulator(SYSTEM_CLOCK)
        simulator.go_down()
        return _remote_of(simulator)


def _remote_of(simulator: Simulator) -> Remote:
    return simulator.client().tiercache_remote(namespace="test", clock=SYSTEM_CLOCK)
