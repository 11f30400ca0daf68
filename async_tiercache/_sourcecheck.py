"""The check against the source: finds changes that nobody has invalidated.

Some of what is read is loaded once more. Where the source has something else than L1 serves, an
invalidation may be on its way; if L1 still serves the same after the bound on staleness, there was
none.
"""

import asyncio
import contextvars
import logging
from typing import Any, Final, NamedTuple

from async_tiercache._family import Family, Load
from async_tiercache._options import MISSING
from async_tiercache._runner import Runner
from async_tiercache._statistics import AGE_BUCKETS, Tally
from async_tiercache._tiers import Tiers
from async_tiercache.abc import Clock

SAMPLES: Final = 16
"""Reads that are loaded once more each time."""

_log = logging.getLogger("async_tiercache")


class _Sample(NamedTuple):
    family: Family
    load: Load
    context: contextvars.Context


class SourceCheck:
    """Compares L1 with the source now and then.

    Args:
        every: The pause between two checks, in seconds.
        bound: How long an invalidation may take, in seconds.
        tiers: Hold L1.
        runner: Runs loaders.
        clock: Paces the checks.

    Attributes:
        ages: Of what L1 served although the source held something else, how old it was.
        checked: How many entries have been compared.
    """

    def __init__(
        self, *, every: float, bound: float, tiers: Tiers, runner: Runner, clock: Clock
    ) -> None:
        self._every = every
        self._bound = bound
        self._tiers = tiers
        self._runner = runner
        self._clock = clock
        self._samples: dict[str, _Sample] = {}
        self.ages = Tally(AGE_BUCKETS)
        self.checked = 0

    def sample(self, family: Family, key: str, load: Load) -> None:
        """Remember how a key is loaded that was read past L1, in the context of its caller.

        What is loaded by an object of its caller cannot be loaded later.
        """
        if len(self._samples) < SAMPLES and load.alone is not None and not family.bound:
            self._samples[key] = _Sample(family, load, contextvars.copy_context())

    async def run(self) -> None:
        """Check again and again."""
        while True:
            await self._clock.sleep(self._every)
            await self.check()

    async def check(self) -> int:
        """Compare some of what L1 serves with the source; return how much nobody had invalidated.

        A loader that fails says nothing.
        """
        samples, self._samples = self._samples, {}
        suspects: dict[str, bytes] = {}
        for key, sample in samples.items():
            slot = self._tiers.probe(key, sample.load.tags)
            if slot is None:
                continue
            entry_id, held = slot.header.entry_id, slot.value
            value = await self._loaded(key, sample)
            if value is not MISSING:
                self.checked += 1
                if sample.family.tells_apart(value, held):
                    suspects[key] = entry_id
        if suspects:
            await self._clock.sleep(self._bound)
        return sum(self._still_serves(key, entry_id) for key, entry_id in suspects.items())

    async def _loaded(self, key: str, sample: _Sample) -> Any:
        """Return what the source has, or `MISSING`."""
        loading = asyncio.get_running_loop().create_task(
            self._runner.shadow(sample.family, key, sample.load), context=sample.context
        )
        try:
            return await loading
        except Exception:  # noqa: BLE001 - of a user's loader
            return MISSING
        finally:
            loading.cancel()

    def _still_serves(self, key: str, entry_id: bytes) -> bool:
        """Return whether L1 serves the same entry as before, and count it."""
        slot = self._tiers.probe(key)
        if slot is None or slot.header.entry_id != entry_id:
            return False
        age = self._tiers.now() - slot.header.created_at - slot.header.load_seconds
        self.ages.add(max(age, 0.0))
        _log.warning(
            "The source has another value of %r than the one of %.1f s ago that is served, and "
            "nothing has invalidated it: is it invalidated where it is changed?",
            key,
            age,
        )
        return True
