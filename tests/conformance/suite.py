"""The public suite http-cache-tests: its tests, its origin server, and a run of it."""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from tests.servers.process import leashed

State: TypeAlias = Literal["0.4.5", "main"]
Kind: TypeAlias = Literal["required", "optimal", "check"]
Outcome: TypeAlias = Literal["passed", "failed", "not set up", "depends on a failed one", "not run"]
Said: TypeAlias = dict[str, Any]
"""What the suite says of each test: `True`, or the kind of error and its message."""

_LIST: Final = """
import tests from './tests/index.mjs'
console.log(JSON.stringify(tests))
"""
_RUN: Final = """
import sections from './tests/index.mjs'
const { base, names, limit, engine, fetcher } = JSON.parse(process.env.CONFORMANCE_RUN)
const { getResults, runTests } = await import(`./${engine}/client/runner.mjs`)
const fetch = fetcher ? (await import(fetcher)).default : globalThis.fetch
const tests = sections.flatMap(section => section.tests.filter(test => names.includes(test.id)))
await runTests([{ tests }], fetch, false, base, limit)
console.log(JSON.stringify(getResults()))
"""


@dataclass(frozen=True, slots=True)
class Suite:
    """The suite in a folder.

    Attributes:
        folder: Where it is.
        state: The release of npm, or the repository, which has gone on since.
        engine: The folder with its client and its server.
        fetcher: The package by which the client asks; empty if Node.js does so itself.
    """

    folder: Path
    state: State
    engine: str
    fetcher: str


@dataclass(frozen=True, slots=True)
class Case:
    """A test of the suite.

    Attributes:
        name: What it is called by.
        section: The title of the section that it is in.
        kind: Whether a cache must pass it, should, or is only asked what it does.
        depends_on: The tests that must pass for it to mean anything.
    """

    name: str
    section: str
    kind: Kind
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """How a test has ended.

    Attributes:
        outcome: Whether it passed, and else why not.
        message: What the suite says of it.
    """

    outcome: Outcome
    message: str = ""


def suite_in(folder: Path) -> Suite:
    """Return the suite of a folder: the repository has put its engine in a folder of its own."""
    if (folder / "test-engine").is_dir():
        return Suite(folder, "main", "test-engine", "")
    return Suite(folder, "0.4.5", ".", "node-fetch")


async def cases_of(suite: Suite) -> list[Case]:
    """Return the tests for a cache that is no browser's.

    Those on `Surrogate-Control`, which is of no RFC, are not among what the suite lists.
    """
    sections = json.loads(await _output_of(suite, "--input-type=module", "--eval", _LIST))
    return [
        Case(
            each["id"],
            section["name"],
            each.get("kind", "required"),
            tuple(each.get("depends_on", ())),
        )
        for section in sections
        for each in section["tests"]
        if not each.get("browser_only")
    ]


async def run(suite: Suite, port: int, names: Sequence[str], *, limit: int = 100) -> Said:
    """Run tests against the cache on a port of loopback.

    Args:
        suite: Where they are.
        port: The cache's.
        names: Which tests.
        limit: How many of them run at once.
    """
    asked = {
        "base": f"http://127.0.0.1:{port}",
        "names": list(names),
        "limit": limit,
        "engine": suite.engine,
        "fetcher": suite.fetcher,
    }
    output = await _output_of(
        suite, "--input-type=module", "--eval", _RUN, CONFORMANCE_RUN=json.dumps(asked)
    )
    said: Said = json.loads(output)
    return said


def results_of(cases: Iterable[Case], said: Said) -> dict[str, Result]:
    """Return how each test has ended, as the suite's own pages tell it."""
    by_name = {case.name: case for case in cases}
    return {name: _result(name, by_name, said) for name in by_name}


async def transcript_of(suite: Suite, port: int, name: str) -> str:
    """Run one test; return what its client sent and got, and the result."""
    base = f"http://127.0.0.1:{port}"
    cli = f"{suite.engine}/cli.mjs"
    return await _output_of(suite, cli, npm_config_base=base, npm_config_id=name)


@asynccontextmanager
async def origin(suite: Suite, log: list[str]) -> AsyncGenerator[int]:
    """Run the suite's origin server; yield its port.

    Args:
        suite: Has the server.
        log: What the server says is added here.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = {"protocol": "http", "port": "0", "pidfile": f"{folder}/server.pid"}
        as_npm = {f"npm_config_{name}": value for name, value in settings.items()}
        async with _node(suite, f"{suite.engine}/server/server.mjs", **as_npm) as process:
            assert process.stdout is not None
            first = (await process.stdout.readline()).decode()
            listening = re.search(r":(\d+)/$", first.strip())
            assert listening is not None, f"the origin server does not start: {first}"
            reading = asyncio.create_task(_read(process.stdout, log), name="origin's log")
            try:
                yield int(listening[1])
            finally:
                reading.cancel()
                await asyncio.wait([reading])


def _result(name: str, cases: Mapping[str, Case], said: Said) -> Result:
    found = said.get(name)
    if found is None:
        return Result("not run")
    for needed in cases[name].depends_on:
        if _result(needed, cases, said).outcome != "passed":
            return Result("depends on a failed one", needed)
    if found is True:
        return Result("passed")
    error, message = found
    return Result("not set up" if error == "Setup" else "failed", message)


async def _read(lines: asyncio.StreamReader, log: list[str]) -> None:
    while line := await lines.readline():
        log.append(line.decode())


async def _output_of(suite: Suite, *what: str, **environment: str) -> str:
    async with _node(suite, *what, **environment) as process:
        output, _ = await process.communicate()
        assert process.returncode == 0, f"the suite has failed: {output.decode()}"
        return output.decode()


@asynccontextmanager
async def _node(
    suite: Suite, *what: str, **environment: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run Node.js in the suite's folder."""
    process = await asyncio.create_subprocess_exec(
        *leashed("node", "--no-warnings", *what),
        cwd=suite.folder,
        env={**os.environ, **environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
