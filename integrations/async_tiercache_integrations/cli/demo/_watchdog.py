"""The watchdog of a sandbox: ends its processes and removes its folder when its owner is gone.

Run as a script, with the folder as argument. Reads ``+PID SIGNAL`` and ``-PID`` lines; the end of
its input means that the owner has closed the sandbox, crashed, or was killed.
"""

import contextlib
import os
import shutil
import signal
import sys
import time

PATIENCE = 1.5  # seconds between the polite signal and SIGKILL


def alive(pid: int) -> bool:
    """Return whether a process still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(processes: dict[int, int]) -> None:
    """Send each process its signal, then SIGKILL to those that did not obey."""
    for pid, number in processes.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(map(alive, processes)):
        time.sleep(0.01)
    for pid in filter(alive, processes):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Follow the owner until its end of the pipe closes."""
    processes: dict[int, int] = {}
    for line in sys.stdin:
        if line.startswith("+"):
            pid, number = line[1:].split()
            processes[int(pid)] = int(number)
        else:
            processes.pop(int(line[1:]), None)
    end(processes)
    # A dying server may still create a file while its folder is being removed.
    for _ in range(50):
        shutil.rmtree(sys.argv[1], ignore_errors=True)
        if not os.path.exists(sys.argv[1]):  # noqa: PTH110 - a watchdog starts with few imports
            return
        time.sleep(0.02)


if __name__ == "__main__":
    main()
