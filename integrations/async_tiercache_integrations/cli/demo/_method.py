"""How and where it was measured, in words for the report."""

import os
import platform
from pathlib import Path
from typing import Final

from async_tiercache._version import __version__

CAVEATS: Final = (
    (
        "One machine runs everything: the database, the cache server and the application processes"
        " share its cores, and loopback replaces the network."
    ),
    (
        "The load is a closed loop with think time: a user who waits sends nothing, so a slow phase"
        " gets fewer requests, and its latencies look better than they would to users who arrive"
        " regardless."
    ),
    (
        "Latency is from the call of a repository method to its value, in the event loop of a busy"
        " process. A read that joined another call's load counts for the tier that answered."
    ),
    (
        "Without a cache a read is one statement; statements saved are counted against that."
        " Database time is what PostgreSQL measured from the start to the end of each statement,"
        " waiting for a core included."
    ),
    (
        "Sales reports carry no version: only point reads and joins are checked for age. It counts"
        " from the acknowledgement of the first update that a read misses to its begin. What was"
        " queued because Redis was down is acknowledged when Redis has confirmed it; what others"
        " read before that is counted apart."
    ),
)
"""What a reader should know before quoting a figure."""

NOT_KILLED: Final = (
    "The Redis was given by --redis-url. It is not ours to kill, so the two phases that kill and"
    " restart it were left out."
)

NOT_PROMISED: Final = (
    (
        "An invalidation reaches L2 and its own process at once, and the L1 of another process by"
        " a message. Until that arrives its copy may be served; if it is lost, until"
        " staleness_bound is over: the age of old reads is bounded, and printed here. Updates"
        " follow the same Zipf's law as reads, so the most read rows are changed several times a"
        " second: the hardest case for an L1."
    ),
    "A CDN in front has to be told by other means.",
)

POLICY: Final = "ttl 1 min, l1_ttl 30 s, grace 1 min, at most 10,000 entries in L1"
"""The shop's policy, for people."""

MIX: Final = (
    "70 % point reads, 20 % joins, 8 % aggregates over all orders, 2 % updates that invalidate;"
    " keys by Zipf's law with exponent 1.0"
)


PAGES: Final = (
    "JSON from uvicorn and FastAPI, three cached calls of repositories each, max-age 60;"
    " {clients} clients on kept connections ask without pause for 500 articles by Zipf's law, a"
    " third of them with If-None-Match; 0.5 % change a price"
)
"""The load of the chapter about HTTP, for people."""

BEHIND_HTTP: Final = (
    "The clients of the pages run on the same cores as the servers, and their time is part of every"
    " latency; the servers would do more on a machine of their own."
)


def machine() -> str:
    """Describe this machine in a line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{cores} cores, {model}, {platform.system()} {platform.release()}"


def versions(*servers: str) -> str:
    """Name this package, Python and the servers with their versions."""
    ours = (f"async-tiercache {__version__}", f"Python {platform.python_version()}")
    return ", ".join(ours + servers)
