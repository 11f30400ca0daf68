"""What an application process is told when it starts."""

import json
from dataclasses import asdict, dataclass

from async_tiercache_integrations.cli.demo._workload import Sizes


@dataclass(frozen=True, slots=True)
class Setting:
    """What a process needs to know; the cache's own options come by environment variables.

    Attributes:
        number: Which of the processes it is, from 0.
        database_url: The database, as the application's role.
        boards: The folder of what was acknowledged, shared by all processes.
        seen: The file of keys that were ever read.
        sizes: How many rows there are.
        oldest: A read that is older than this is past the bound, in seconds.
        pool_size: How many sessions with the database it keeps.
        think_seconds: How long a user waits on average between two calls.
        counts_statements: Whether it counts statements because the database does not.
        ports: Where the servers of pages listen, for their clients.
    """

    number: int
    database_url: str
    boards: str
    seen: str
    sizes: Sizes
    oldest: float
    pool_size: int = 4
    think_seconds: float = 0.01
    counts_statements: bool = False
    ports: tuple[int, ...] = ()

    def as_json(self) -> str:
        """Return what `from_json` takes."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Setting":
        """Return the setting that `as_json` described."""
        data = json.loads(text)
        data["sizes"], data["ports"] = Sizes(**data["sizes"]), tuple(data["ports"])
        return cls(**data)
