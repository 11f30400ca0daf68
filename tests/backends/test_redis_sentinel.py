"""Where the master is, as most Sentinels say."""

import asyncio
from typing import Any, cast

import pytest
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import ConnectionError as RedisConnectionError

from async_tiercache.backends.redis.sentinel import VotingSentinel

OLD, NEW = ("10.0.0.1", 6379), ("10.0.0.2", 6379)


class Voter:
    """A Sentinel that names an address, fails, or hangs."""

    def __init__(self, answer: "tuple[str, int] | Exception | str | None") -> None:
        self.answer = answer

    async def sentinel_get_master_addr_by_name(self, service: str) -> Any:
        """Return the address."""
        if self.answer == "hangs":
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def voting(*answers: Any) -> VotingSentinel:
    """Return a client of Sentinels that answer so."""
    sentinel = cast("Any", VotingSentinel)([])
    sentinel.sentinels = [Voter(answer) for answer in answers]
    return cast("VotingSentinel", sentinel)


DOWN = RedisConnectionError("down")


@pytest.mark.parametrize(
    ("answers", "master"),
    [
        pytest.param([NEW, NEW, NEW], NEW, id="all agree"),
        pytest.param([OLD, NEW, NEW], NEW, id="the first one is behind"),
        pytest.param([OLD, OLD, NEW], OLD, id="the first one to know"),
        pytest.param(["hangs", NEW, NEW], NEW, id="one hangs"),
        pytest.param(["hangs", "hangs", NEW], NEW, id="two hang"),
        pytest.param([DOWN, DOWN, NEW], NEW, id="two are down"),
        pytest.param([None, None, NEW], NEW, id="two know nothing"),
        pytest.param([(b"10.0.0.2", 6379)], NEW, id="bytes"),
    ],
)
async def test_what_most_of_those_that_answer_say_counts(
    answers: list[Any], master: tuple[str, int]
) -> None:
    """Nobody is waited for who hangs."""
    async with asyncio.timeout(5):
        assert await voting(*answers).discover_master("shop") == master


@pytest.mark.parametrize("answers", [[], [DOWN, None], [None]], ids=["none", "down", "unknown"])
async def test_a_master_that_nobody_names_is_not_found(answers: list[Any]) -> None:
    """The error names the service."""
    with pytest.raises(MasterNotFoundError, match="shop"):
        await voting(*answers).discover_master("shop")
