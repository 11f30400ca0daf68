"""RemoteContract: a backend that keeps its promises passes, one that breaks any does not."""

import pytest

from async_tiercache.abc import Remote
from async_tiercache.testing.contracts import RemoteContract
from tests.testing.broken_coherence import INCOHERENT
from tests.testing.broken_remotes import BROKEN, Broken, OutOfReach
from tests.testing.remotes import DictRemote
from tests.testing.runs import fails, names_of


class TestDictRemote(RemoteContract):
    """A backend in a dict, so the contract asks for nothing that only Redis has."""

    @pytest.fixture
    def remote(self) -> Remote:
        """Return the remote."""
        return DictRemote()

    @pytest.fixture
    def lost(self) -> Remote:
        """Return one that is away."""
        return OutOfReach()


class Impatient(RemoteContract):
    """For backends that are known to fail."""

    deadline = 0.3


@pytest.mark.parametrize("broken", [*BROKEN, *INCOHERENT], ids=lambda broken: broken.__name__)
async def test_a_broken_promise_is_found(broken: type[Broken]) -> None:
    """By each of the tests that are named for it."""

    def fixtures() -> dict[str, Remote]:
        return {"remote": broken(), "lost": broken()}

    passed = [name for name in broken.found_by if not await fails(Impatient(), name, fixtures)]

    assert broken.found_by
    assert passed == []


def test_every_test_of_the_contract_can_fail() -> None:
    """Each is named by a backend that fails it."""
    named = {name for broken in (*BROKEN, *INCOHERENT) for name in broken.found_by}

    assert sorted(named) == names_of(RemoteContract)
