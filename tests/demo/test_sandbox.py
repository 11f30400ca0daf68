"""A sandbox takes its folder and its processes with it, however its owner ends."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from async_tiercache_integrations.cli.demo._sandbox import Sandbox

SLEEPER = (sys.executable, "-I", "-S", "-c", "import signal; signal.pause()")

# An owner that starts a process, says where and which, and waits to be killed.
OWNER = f"""
import asyncio, sys
from async_tiercache_integrations.cli.demo._sandbox import Sandbox

async def main():
    async with Sandbox() as sandbox:
        child = await sandbox.spawn(*{SLEEPER!r})
        print(sandbox.path, child.pid, sandbox._watchdog.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def exists(path: str) -> bool:
    return Path(path).exists()


async def gone(pid: int) -> None:
    """Return when a process that is not our child has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), 10)
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def test_closing_removes_the_folder_and_ends_the_processes() -> None:
    """Nothing is left after a normal end."""
    async with Sandbox() as sandbox:
        child = await sandbox.spawn(*SLEEPER)
        (sandbox.folder("data") / "file").write_text("x")

    await child.wait()
    assert not sandbox.path.exists()


async def test_an_error_inside_leaves_nothing_behind() -> None:
    """An exception ends the sandbox like a normal end does, and is passed on."""
    sandbox = Sandbox()
    children: list[asyncio.subprocess.Process] = []

    async def fail() -> None:
        async with sandbox:
            children.append(await sandbox.spawn(*SLEEPER))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert await children[0].wait() == -signal.SIGKILL
    assert not sandbox.path.exists()


async def test_a_process_that_ignores_its_signal_is_killed() -> None:
    """A process may not outlive the sandbox by ignoring what should end it."""
    deaf = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(flush=True); signal.pause()"
    )
    async with Sandbox() as sandbox:
        child = await sandbox.spawn(
            sys.executable, "-I", "-S", "-c", deaf,
            stop_signal=signal.SIGTERM, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert child.stdout is not None
        await child.stdout.readline()

    assert await child.wait() == -signal.SIGKILL


async def test_a_killed_owner_leaves_nothing_behind() -> None:
    """SIGKILL gives the owner no chance to clean up; the watchdog does it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert owner.stdout is not None
    path, child, watchdog = (await owner.stdout.readline()).decode().split()

    owner.kill()
    await asyncio.gather(gone(int(child)), gone(int(watchdog)), owner.wait())

    assert not exists(path)
