"""`tiercache demo` from the first line it prints to its exit code."""

import asyncio
import signal
from pathlib import Path
from typing import Final

from rich.console import Console

from async_tiercache.errors import ConfigurationError
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
        live: Whether to draw a live view, if this is a terminal.
    """
    if not report.absolute().parent.is_dir():
        raise ConfigurationError(
            f"There is no folder {report.parent} for the report", hint="Make it, or name another."
        )
    console = Console()
    try:
        if live and console.is_terminal:
            with LiveView(console) as view:
                results = asyncio.run(_until_signalled(options, view))
        else:
            results = asyncio.run(_until_signalled(options, PlainView()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped. Servers, processes and temporary files are gone.")
        return INTERRUPTED
    report.write_text(_report.render(results), encoding="utf-8")
    console.print(summary(results))
    console.print(f"Report: {report.absolute()}", soft_wrap=True, highlight=False)
    failures = _gates.broken(results)
    for failure in failures:
        console.print(f"[bold red]Broken:[/] {failure}.")
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
