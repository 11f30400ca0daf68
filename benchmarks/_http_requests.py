"""Requests as a server hands them to an application, without a server."""

from typing import Any

from benchmarks._http_driver import BROWSER

_FIELDS = [(b"host", b"shop.example")] + [
    (name.lower().encode(), value.encode()) for name, value in BROWSER.items()
]


def scope_of(number: int, *fields: tuple[bytes, bytes]) -> dict[str, Any]:
    """Return the scope of a request for a product, with the fields that browsers send."""
    path = f"/products/{number}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50_000),
        "scheme": "http",
        "root_path": "",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [*_FIELDS, *fields],
    }


async def receive() -> dict[str, Any]:
    """Be a client who has sent all."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def nobody(_: Any) -> None:
    """Be no client."""
