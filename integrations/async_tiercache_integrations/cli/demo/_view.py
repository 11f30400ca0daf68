"""What the run tells those who watch: one Protocol, and the plain lines for logs and pipes."""

from typing import Protocol

from async_tiercache_integrations.cli.demo._measure import Phase, Point, Stampede
from async_tiercache_integrations.cli.demo._wording import loads


class View(Protocol):
    """Is told what happens, as it happens."""

    def step(self, text: str) -> None:
        """Something is being prepared."""
        ...

    def seeded(self, table: str, done: int, total: int) -> None:
        """So many rows of a table are there."""
        ...

    def planned(self, names: list[str]) -> None:
        """These phases will come."""
        ...

    def phase_began(self, phase: Phase, seconds: float) -> None:
        """A phase began and will take so long."""
        ...

    def sampled(self, phase: Phase, point: Point) -> None:
        """A phase goes on; its tally is up to date."""
        ...

    def phase_ended(self, phase: Phase) -> None:
        """A phase is complete."""
        ...

    def stampeded(self, stampede: Stampede) -> None:
        """A stampede is over."""
        ...

    def told(self, words: str) -> None:
        """Something was found in a phase without load."""
        ...


class PlainView:
    """One line for each thing that is done."""

    def step(self, text: str) -> None:
        print(f"- {text}", flush=True)

    def seeded(self, table: str, done: int, total: int) -> None:
        if done == total:
            print(f"  {total:>9,} {table}", flush=True)

    def planned(self, names: list[str]) -> None:
        print(f"- Phases: {', '.join(names)}", flush=True)

    def phase_began(self, phase: Phase, seconds: float) -> None:
        print(f"- {phase.name} ({seconds:g} s): {phase.about}", flush=True)

    def sampled(self, phase: Phase, point: Point) -> None:
        """Say nothing: the end of the phase sums it up."""

    def phase_ended(self, phase: Phase) -> None:
        tally, reads = phase.tally, phase.tally.all_reads()
        tiers = "  ".join(
            f"{name} {tally.share(name):.0%}" for name in tally.latency if tally.share(name)
        )
        print(
            f"  {tally.requests / phase.seconds:>9,.0f} requests/s"
            f"  {phase.statements / phase.seconds:,.0f} statements/s"
            f"  p50 {reads.quantile(0.5) * 1e3:.3f} ms  p99 {reads.quantile(0.99) * 1e3:.1f} ms"
            f"  {tiers}  errors {tally.failed}",
            flush=True,
        )

    def stampeded(self, stampede: Stampede) -> None:
        print(
            f"  {stampede.readers:>9,} readers of one cold key: {loads(stampede.loads)},"
            f" the last one served after {stampede.seconds * 1e3:.0f} ms",
            flush=True,
        )

    def told(self, words: str) -> None:
        print(f"  {words}", flush=True)
