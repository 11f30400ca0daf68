"""What does an entry of L1 take beyond its key and its value, and how long does collecting pause?

Each figure is of a fresh process, whose resident set is read: with keys and values alone, and with
a full L1 of the same, untagged. A key is the argument of a call and its text, of which L1 need not
hold both.
"""

from typing import Final

from async_tiercache_integrations.cli.demo._claims import Claim, spell
from benchmarks._apart import Question
from benchmarks._harness import Effort
from benchmarks._memory import held_apart

ENTRIES: Final = 100_000
MANY: Final = 1_000_000


async def overhead(effort: Effort) -> list[Claim]:  # noqa: ARG001 - fewer would be another figure
    """Weigh an L1 of 100,000 entries."""
    cached, bare = (
        held_apart(kind, ENTRIES).size / ENTRIES for kind in ("cached packed", "bare packed")
    )
    return [
        Claim(
            classical=f"L1 with {ENTRIES:,} entries",
            restated="Bytes an entry, beyond its key and its value",
            measured=cached - bare,
            bar=184,
            unit="bytes",
            beside=f"{spell(cached, 'bytes')} in all",
        )
    ]


async def pauses(effort: Effort) -> list[Claim]:
    """Time a full garbage collection with a million entries, or as many as a quick look allows."""
    entries = int(MANY * min(1, effort.scale))
    cached, bare = (
        held_apart(kind, entries).pause / entries for kind in ("filled packed", "bare packed")
    )
    return [
        Claim(
            classical=f"L1 with {entries:,} entries",
            restated="What each adds to the pause of a full garbage collection",
            measured=cached - bare,
            bar=1e-6,
            unit="seconds",
            beside=f"{spell(cached * entries, 'seconds')} for all;"
            f" without a cache {spell(bare * entries, 'seconds')}",
        )
    ]


GROUPS: Final[dict[str, Question]] = {"overhead": overhead, "pauses": pauses}
