"""What must be zero in every run, on every machine: the demo fails if it is not."""

from typing import Final

from async_tiercache_integrations.cli.demo._measure import Results

MARGIN: Final = 0.5
"""What a busy machine may add to the staleness bound before a read counts as past it, seconds."""


def broken(results: Results) -> list[str]:
    """Return in words each gate that a run has broken; the empty list when all hold."""
    total = results.cached
    counts = [
        (results.errors, "calls raised an error"),
        (total.old_own, "reads were older than an invalidation in the same process"),
        (total.past_bound, f"reads were past the staleness bound of {results.bound:g} s"),
    ]
    if results.pages is not None:
        pages = results.pages
        counts += [
            (pages.errors, "requests for pages failed"),
            (pages.old_own, "pages were older than a change that their server had answered"),
            (pages.past_bound, f"pages were past the staleness bound of {pages.bound:g} s"),
        ]
    return [f"{count:,} {what}" for count, what in counts if count]
