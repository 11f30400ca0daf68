"""FakeClock: time moves only when a test says so."""

import asyncio

import pytest

from async_tiercache.abc import Clock
from async_tiercache.testing import FakeClock


def test_it_stands_still() -> None:
    """Reading it does not move it."""
    clock = FakeClock()

    assert [clock.monotonic(), clock.monotonic()] == [1000.0, 1000.0]
    assert clock.wall() - clock.monotonic() == 1_700_000_000.0


def test_chance_is_what_the_test_says() -> None:
    """0.0 unless told otherwise: no jitter, nothing early."""
    clock = FakeClock()
    assert clock.random() == 0.0

    clock.draw = 0.7

    assert clock.random() == 0.7


def test_it_is_a_clock() -> None:
    """To the type checker as well."""
    clock: Clock = FakeClock()

    assert clock.monotonic() == 1000.0


async def test_a_sleeper_wakes_at_its_time() -> None:
    """Not before, and not only at the end of a longer step."""
    clock = FakeClock()
    woken: list[float] = []

    async def nap(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(clock.monotonic())

    naps = [asyncio.create_task(nap(seconds)) for seconds in (3, 1, 2)]
    await clock.advance(10)
    await asyncio.gather(*naps)

    assert woken == [1001.0, 1002.0, 1003.0]
    assert clock.monotonic() == 1010.0


async def test_a_sleeper_that_was_only_about_to_sleep_sleeps_from_here() -> None:
    """Tasks that were started just before get to where they wait."""
    clock = FakeClock()
    nap = asyncio.create_task(clock.sleep(5))

    await clock.advance(5)

    assert nap.done()


async def test_whoever_sleeps_again_is_woken_again() -> None:
    """A periodic task runs as often as in real time."""
    clock = FakeClock()
    rounds = 0

    async def tick() -> None:
        nonlocal rounds
        while True:
            await clock.sleep(1)
            rounds += 1

    ticking = asyncio.create_task(tick())
    await clock.advance(5.5)
    ticking.cancel()

    assert rounds == 5


async def test_it_never_goes_back() -> None:
    """Two tasks that advance it at once get to the later of their ends."""
    clock = FakeClock()

    await asyncio.gather(clock.advance(60), clock.advance(10))

    assert clock.monotonic() == 1060.0


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    """It holds nobody up."""
    clock = FakeClock()
    nap = asyncio.create_task(clock.sleep(5))
    await clock.advance(1)

    nap.cancel()
    await clock.advance(10)

    assert nap.cancelled()
    assert clock.monotonic() == 1011.0


async def test_a_timeout_expires_on_this_clock() -> None:
    """As `asyncio.timeout` does on the loop's."""
    clock = FakeClock()
    timeout = clock.timeout(5)

    async def wait() -> None:
        async with timeout:
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await clock.advance(4.9)
    assert not waiting.done()
    await clock.advance(0.2)

    with pytest.raises(TimeoutError):
        await waiting
    assert timeout.expired()


async def test_a_timeout_that_has_ended_does_not_expire() -> None:
    """Its block was left in time."""
    clock = FakeClock()
    async with clock.timeout(5) as timeout:
        pass

    await clock.advance(10)

    assert not timeout.expired()


async def test_a_timeout_that_was_never_entered_does_not_expire() -> None:
    """Making one starts nothing."""
    clock = FakeClock()
    timeout = clock.timeout(5)

    await clock.advance(10)

    assert not timeout.expired()


async def test_a_timeout_of_none_never_expires() -> None:
    """No limit is a limit, too."""
    clock = FakeClock()

    async with clock.timeout(None) as timeout:
        await clock.advance(1e9)

    assert not timeout.expired()


def test_a_sleeper_of_a_loop_that_is_gone_harms_nobody() -> None:
    """The clock may outlive a loop, as the cache may."""
    clock = FakeClock()
    left: list[asyncio.Future[None]] = []

    async def leave() -> None:
        left.append(asyncio.ensure_future(clock.sleep(5)))
        await asyncio.sleep(0)

    asyncio.run(leave())
    asyncio.run(clock.advance(10))

    assert clock.monotonic() == 1010.0
