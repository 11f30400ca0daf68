"""`tiercache demo` from the first line it prints to its exit code."""

import asyncio
import signal
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from rich.console import Console

from async_tiercache_integrations.cli._output import check_writable, write
from async_tiercache_integrations.cli.demo import _gates, _report
from async_tiercache_integrations.cli.demo._live import LiveView
from async_tiercache_integrations.cli.demo._measure import Results
from async_tiercache_integrations.cli.demo._run import Options, Run
from async_tiercache_integrations.cli.demo._summary import summary
from async_tiercache_integrations.cli.demo._view import PlainView, View

BROKEN: Final = 1  # what must be zero was not
INTERRUPTED: Final = 130  # what shells report for a program that Ctrl-C ended

# Each ends the run like Ctrl-C does, so that each cleans up.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(options: Options, *, report: Path, live: bool) -> int:
    """Run the demo, print what it found, write the report; return the exit code.

    Args:
        options: How large the run is.
        report: Where the HTML file goes.
        live: Whether to draw a live view, if this is a terminal that can be drawn on.

    Raises:
        ConfigurationError: The report cannot be written.
    """
    check_writable(report)
    console = Console()
    try:
        with view_on(console, live=live) as view:
            results = asyncio.run(_until_signalled(options, view))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped. Servers, processes and temporary files are gone.")
        return INTERRUPTED
    return tell(console, results, report)


def view_on(console: Console, *, live: bool) -> AbstractContextManager[View]:
    """Return a live view if that is wanted and can be drawn there, else plain lines."""
    return LiveView(console) if live and console.is_interactive else nullcontext(PlainView())


def tell(console: Console, results: Results, report: Path) -> int:
    """Print what was found, then write the report; return the exit code.

    Raises:
        ConfigurationError: The report cannot be written.
    """
    console.print(summary(results))
    failures = _gates.broken(results)
    for failure in failures:
        console.print(f"[bold red]Broken:[/] {failure}.")
    write(report, _report.render(results).encode())
    console.print(f"Report: {report.absolute()}", soft_wrap=True, highlight=False, markup=False)
    return BROKEN if failures else 0


async def _until_signalled(options: Options, view: View) -> Results:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        return await Run(options, view)()
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
