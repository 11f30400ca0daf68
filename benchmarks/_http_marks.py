"""Servers of others in front of an application, where they are installed: nginx and Varnish."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from benchmarks._apart import SkipGroup

_START_LIMIT: Final = 20.0

_NGINX: Final = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache keys_zone=bench:10m;
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_cache bench; }}
  }}
}}
"""

Command: TypeAlias = Callable[[str, Path, int, int], list[str]]
"""Returns a command line, given the program, its folder, its port and that of the origin."""


def nginx(program: str, folder: Path, port: int, origin: int) -> list[str]:
    """Return how nginx is started as a cache that keeps responses in files."""
    text = _NGINX.format(folder=folder, port=port, origin=origin)
    if os.geteuid() == 0:
        text = f"user root;\n{text}"
    settings = folder / "nginx.conf"
    settings.write_text(text, encoding="utf-8")
    return [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(settings)]


def varnish(program: str, folder: Path, port: int, origin: int) -> list[str]:
    """Return how Varnish is started with its own rules, and memory for what it keeps."""
    # Its jail wants users that a container lacks.
    where = ["-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{origin}", "-n", str(folder)]
    return [program, "-F", "-j", "none", *where, "-s", "malloc,64m"]


@asynccontextmanager
async def in_front(
    sandbox: Sandbox, name: str, command: Command, origin: int, core: int | None
) -> AsyncGenerator[int]:
    """Start a server in front of the one at a port, and yield its own.

    Raises:
        SkipGroup: It is not installed, or does not start.
    """
    if (program := shutil.which(name, path=_path())) is None:
        raise SkipGroup(f"{name} is not installed")
    folder, port = sandbox.folder(name), _free_port()
    with (folder / "said").open("wb") as said:
        options: dict[str, Any] = {"stdout": said, "stderr": said, "cwd": folder}
        if core is not None:
            options["preexec_fn"] = lambda: os.sched_setaffinity(0, {core})
        # Killed, they would leave their children behind.
        argv = command(program, folder, port, origin)
        process = await sandbox.spawn(*argv, stop_signal=signal.SIGTERM, **options)
    try:
        if not await _answers(process, port):
            words = (folder / "said").read_text(errors="replace").strip()
            raise SkipGroup(f"{name} did not start: {words[-300:]}")
        yield port
    finally:
        await sandbox.stop(process, signal.SIGTERM)


def _path() -> str:
    """Return where programs are: Debian's servers are not on the PATH of everybody."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])


async def _answers(process: asyncio.subprocess.Process, port: int) -> bool:
    deadline = asyncio.get_running_loop().time() + _START_LIMIT
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return True
        await asyncio.sleep(0.02)
    return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
