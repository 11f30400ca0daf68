"""Prometheus' own tool has nothing to say against the page that it would scrape."""

import asyncio
import shutil
import subprocess

from prometheus_client import CollectorRegistry, generate_latest

from async_tiercache import TierCache
from async_tiercache.testing import MemoryServer, settled
from async_tiercache_integrations.prometheus import CacheCollector
from tests.core.source import Source, function_of
from tests.needs import missing


async def page() -> bytes:
    """Return the page of a cache that has done something."""
    registry = CollectorRegistry()
    async with TierCache(namespace="test", client=MemoryServer().client()) as cache:
        registry.register(CacheCollector(cache))
        await function_of(cache, Source())(1)
        await settled(cache)
        return generate_latest(registry)


def test_the_page_is_as_prometheus_wants_it() -> None:
    """Names, units and help texts follow its rules, and it can be read."""
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("promtool of Debian's package prometheus is not on the PATH")
    text = asyncio.run(page())

    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, check=False
    )

    assert b"tiercache_l2_up{" in text
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, b"", b"")
