"""Does `ResponseCache` do what the public suite http-cache-tests asks of a shared cache?

    python -m tests.conformance --package FOLDER --profile rfc9111

`FOLDER` is the suite with its dependencies, of npm or of its repository; how to get it is in
docs/http-conformance.md. Ends with 1 if anything is not as `expected.json` says.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.conformance.server import Setting, cached
from tests.conformance.suite import (
    Case,
    Result,
    State,
    cases_of,
    origin,
    results_of,
    run,
    suite_in,
    transcript_of,
)
from tests.conformance.table import markdown_of, put_into, text_of
from tests.conformance.verdict import doubtful, expected_of, faults_of, passing, record, rows_of


def arguments() -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance")
    add = parser.add_argument
    add("--package", type=Path, required=True, help="the folder of http-cache-tests")
    add("--profile", choices=("rfc9111", "origin-safe"), default="rfc9111")
    add("--parser", choices=("httptools", "h11"), default="httptools", help="of uvicorn")
    add("--body", choices=("streamed", "whole"), default="streamed", help="how contents come")
    add("--id", help="run one test only, and show what was sent")
    add("--json", type=Path, help="where to write all results")
    add("--markdown", type=Path, help="the page whose part on this profile is renewed")
    add("--record", action="store_true", help="expect the optional tests that pass from now on")
    return parser.parse_args()


def report(
    state: State,
    cases: Sequence[Case],
    results: Mapping[str, Result],
    options: argparse.Namespace,
) -> int:
    """Tell what a run has found; return 1 if it is not as expected."""
    optional = passing(cases, results, "optimal")
    if options.record:
        record(state, options.profile, optional)
    expected = expected_of(state, options.profile)
    rows = rows_of(cases, results)
    print(f"http-cache-tests, {state}, {options.profile}, {options.parser}, {options.body}\n")
    print(text_of(rows))
    if options.json:
        told = {case.name: {**asdict(case), **asdict(results[case.name])} for case in cases}
        options.json.write_text(json.dumps(told, indent=2) + "\n")
    if options.markdown:
        put_into(
            options.markdown,
            f"{options.profile}, {state}",
            markdown_of(rows, cases, results, expected),
        )
    if more := sorted(set(optional) - expected.optional):
        print(f"\nOptional ones that pass and are not on record: {', '.join(more)}")
    faults = faults_of(cases, results, expected)
    print("\n" + ("\n".join(faults) or "As expected."))
    return int(bool(faults))


async def main() -> int:
    """Run the suite."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    options = arguments()
    suite = suite_in(options.package.resolve())
    setting = Setting(options.profile, options.parser, options.body)
    log: list[str] = []
    async with origin(suite, log) as port, cached(port, setting) as cached_port:
        if options.id:
            print(await transcript_of(suite, cached_port, options.id), "".join(log), sep="\n")
            return 0
        cases = await cases_of(suite)
        said = await run(suite, cached_port, [case.name for case in cases])
        expected = expected_of(suite.state, options.profile)
        again = doubtful(cases, results_of(cases, said), expected)
        said |= await run(suite, cached_port, again, limit=5)
    results = results_of(cases, said)
    return report(suite.state, cases, results, options)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
