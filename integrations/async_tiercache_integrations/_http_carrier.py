"""Carries the token of a client's changes from the request that made them to its next ones."""

import re
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

CarriedBy: TypeAlias = Literal["cookie", "header"]
SECONDS: Final = 60
"""For how long a cookie is sent along; by then every server has heard."""


class Carrier:
    """A cookie, or a field that the client sends back.

    Args:
        by: Which of them.
        name: The cache's.
    """

    def __init__(self, by: CarriedBy, name: str) -> None:
        token = f"{name.lower()}-token"
        self._field = b"cookie" if by == "cookie" else token.encode()
        self._cookie = token if by == "cookie" else None
        text = rb"(?:^|[;,] *)%b=([\w-]+)" % token.encode()
        self._pattern = re.compile(text if by == "cookie" else rb"([\w-]+)")

    def received(self, request: Mapping[bytes, bytes]) -> str | None:
        """Return the token that a request brings along, if it does."""
        value = request.get(self._field)
        found = None if value is None else self._pattern.search(value)
        return None if found is None else found[1].decode("ascii")

    def sent(self, token: str, *, secure: bool) -> tuple[bytes, bytes]:
        """Return the field that gives a client its token.

        Args:
            token: The token.
            secure: Whether it may come back over a secure connection only.
        """
        if self._cookie is None:
            return self._field, token.encode("ascii")
        attributes = f"Path=/; Max-Age={SECONDS}; HttpOnly; SameSite=Lax" + "; Secure" * secure
        return b"set-cookie", f"{self._cookie}={token}; {attributes}".encode("ascii")
