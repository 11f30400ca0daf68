"""Certificates of an authority of the test's own, and a proxy that ends TLS before a server."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import trustme


@dataclass(frozen=True)
class Certificates:
    """Files of an authority, of a server on loopback and of a client.

    Attributes:
        authority: Who signed the others.
        server: The server's chain and key.
        elsewhere: The same, of a server with another name.
        client: The client's chain and key.
    """

    authority: Path
    server: tuple[Path, Path]
    elsewhere: tuple[Path, Path]
    client: tuple[Path, Path]

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Return new ones."""
        authority = trustme.CA()
        path = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(path))

        def issue(name: str) -> tuple[Path, Path]:
            issued = authority.issue_cert(name)
            chain, key = folder / f"{name}.pem", folder / f"{name}.key"
            chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
            issued.private_key_pem.write_to_path(str(key))
            return chain, key

        return cls(path, issue("127.0.0.1"), issue("elsewhere.test"), issue("client.test"))

    def server_options(self) -> tuple[str, ...]:
        """Return what lets a redis-server speak TLS, and want a client's certificate."""
        chain, key = self.server
        return (
            "--tls-cert-file", str(chain), "--tls-key-file", str(key),
            "--tls-ca-cert-file", str(self.authority), "--tls-auth-clients", "yes",
        )  # fmt: skip

    def query(self, *, client: bool = True) -> str:
        """Return the parameters of a URL."""
        chain, key = self.client
        own = f"&ssl_certfile={chain}&ssl_keyfile={key}" if client else ""
        return f"ssl_ca_certs={self.authority}{own}"


class TlsProxy:
    """Ends TLS and forwards to a server on loopback.

    Args:
        port: Where the server listens.
        identity: The chain and key to show.
        authority: Whose clients are let in.

    Attributes:
        port: Where to connect to.
    """

    def __init__(self, port: int, identity: tuple[Path, Path], authority: Path) -> None:
        self.port = 0
        self._upstream = port
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
        self._context.load_cert_chain(*identity)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        replies, server = await asyncio.open_connection("127.0.0.1", self._upstream)
        pumps = [_pump(reader, server), _pump(replies, writer)]
        with contextlib.suppress(asyncio.CancelledError, OSError, ssl.SSLError):
            running = [asyncio.ensure_future(pump) for pump in pumps]
            try:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in running:
                    each.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        for end in (writer, server):
            end.transport.abort()


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while chunk := await source.read(2**16):
        target.write(chunk)
        await target.drain()
