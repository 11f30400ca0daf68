"""Loads for many ids keep tenants apart."""

import asyncio
from contextvars import ContextVar

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from tests.conftest import MakeCache

TENANT: ContextVar[str] = ContextVar("tenant")


async def test_refreshes_of_two_tenants_are_not_gathered_into_one_load(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """What one tenant's load brings would else be kept under the other's key."""
    cache: TierCache = await make_cache(tenant=TENANT.get)
    loads: list[tuple[str, list[int]]] = []

    @cache.cached("plan:{number}", ttl=10, grace=100, soft_timeout=0, jitter=0)
    async def plan(number: int) -> str:
        return f"{number} of {TENANT.get()}"

    @plan.batch
    async def plans(numbers: list[int]) -> dict[int, str]:
        loads.append((TENANT.get(), numbers))
        return {number: f"{number} of {TENANT.get()}" for number in numbers}

    async def read(tenant: str) -> str:
        TENANT.set(tenant)
        return await plan(1)

    async def read_both() -> list[str]:
        return await asyncio.gather(*(asyncio.create_task(read(each)) for each in "ab"))

    await read_both()
    await settled(cache)
    await clock.advance(11)
    await read_both()
    await clock.advance(1)
    await settled(cache)

    assert await read_both() == ["1 of a", "1 of b"]
    assert sorted(loads) == [("a", [1]), ("b", [1])]
    assert callable(plans)
