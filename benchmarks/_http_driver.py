"""What sends requests as fast as they are answered: wrk, or without it a small client in Python."""

import asyncio
import math
import re
import shutil
import signal
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

CONNECTIONS: Final = 32
PATH: Final = "/products/7"

BROWSER: Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Sec-Fetch-Mode": "navigate",
}
"""What a request carries besides `Host`."""

_REQUESTS: Final = re.compile(r"(\d+) requests in ")
_RATE: Final = re.compile(r"Requests/sec:\s+([\d.]+)")


class DriverError(Exception):
    """Requests were not answered as they ought to be."""


class Answered(NamedTuple):
    """What a server has done.

    Attributes:
        requests: How many requests were answered.
        rate: How many a second.
    """

    requests: int
    rate: float


def driver_name() -> str:
    """Return what `drive` drives with."""
    return "a client in Python" if shutil.which("wrk") is None else "wrk"


async def ask(port: int, fields: Mapping[str, str]) -> None:
    """Send one request, and wait for its answer.

    Raises:
        DriverError: It was neither a 2xx nor a 3xx, or none came.
    """
    await _driven(port, 0.0, fields, connections=1)


async def drive(port: int, seconds: float, fields: Mapping[str, str]) -> Answered:
    """Send requests for about so many seconds, over connections that stay open.

    Raises:
        DriverError: An answer was neither a 2xx nor a 3xx, or none came.
    """
    if (program := shutil.which("wrk")) is None:
        return await _driven(port, seconds, fields, connections=CONNECTIONS)
    options = [f"-t1 -c{CONNECTIONS} -d{math.ceil(seconds) + 1}s".split()]
    options += [["-H", f"{name}: {value}"] for name, value in fields.items()]
    arguments = [each for option in options for each in option]
    process = await asyncio.create_subprocess_exec(
        program, *arguments, f"http://127.0.0.1:{port}{PATH}", stdout=asyncio.subprocess.PIPE
    )
    # It counts in whole seconds, but can be told to come to an end.
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGINT)
    output, _ = await process.communicate()
    return answered_of(output.decode())


def answered_of(output: str) -> Answered:
    """Return what wrk has printed.

    Raises:
        DriverError: It tells of answers that are none, or of no answers.
    """
    requests, rate = _REQUESTS.search(output), _RATE.search(output)
    if requests is None or rate is None or "Non-2xx" in output or "Socket errors" in output:
        raise DriverError(f"wrk has said: {output!r}")
    return Answered(int(requests[1]), float(rate[1]))


async def _driven(
    port: int, seconds: float, fields: Mapping[str, str], *, connections: int
) -> Answered:
    """Do so without wrk."""
    lines = [f"GET {PATH} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    request = "\r\n".join([*lines, "", ""]).encode()
    loop, began = asyncio.get_running_loop(), time.monotonic()
    clients = [_Client(request, began + seconds) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    requests = sum(await asyncio.gather(*(client.ended for client in clients)))
    return Answered(requests, requests / (time.monotonic() - began))


class _Client(asyncio.Protocol):
    """One connection, on which each answer is followed by the next request."""

    def __init__(self, request: bytes, deadline: float) -> None:
        self._request = request
        self._deadline = deadline
        self._answers = 0
        self._parser: Any = import_module("httptools").HttpResponseParser(self)
        self._transport: Any = None
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._answers += 1
        if not 200 <= self._parser.get_status_code() < 400:
            self._transport.abort()
        elif time.monotonic() < self._deadline:
            self._transport.write(self._request)
        else:
            self.ended.set_result(self._answers)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(DriverError(f"a connection was lost: {exc}"))
