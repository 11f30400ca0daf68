"""Tokens: what was invalidated, to be taken to another process by whoever needs to read it there.

A token is signed with a secret that the processes of a namespace share through L2, so that nobody
else can make one. It is short: what has many keys becomes an invalidation of everything that the
other process holds.
"""

import base64
import binascii
from hashlib import blake2b
from hmac import compare_digest
from math import inf
from typing import Any, Final, cast

import msgpack  # type: ignore[import-untyped]

from async_tiercache._guard import Guard
from async_tiercache.abc import NAMESPACE, Clock, Invalidation, Remote
from async_tiercache.errors import TierError

MAX_BYTES: Final = 1024
"""No token is longer, so that it fits into a cookie."""
SECRET_SECONDS: Final = 10.0
"""After this long the secret is asked for again."""
_VERSION: Final = 1
_SIGNATURE_BYTES: Final = 16
_msgpack: Final[Any] = msgpack  # it has no types


class Tokens:
    """Makes and checks tokens.

    Args:
        remote: The tier that keeps the secret, or `None` if there is nobody to share it with.
        guard: The guard around it.
        clock: Says when it is asked again.
    """

    def __init__(self, remote: Remote | None, guard: Guard, clock: Clock) -> None:
        self._remote = remote
        self._guard = guard
        self._clock = clock
        self._asked_at = -inf
        # The one that is shared by now, and the one before, which others may still have.
        self._secrets: list[bytes] = []

    async def learn(self) -> None:
        """Ask for the secret, unless that was not long ago.

        What is never asked for is the first to be evicted, and then processes that start later
        would share another one.
        """
        now = self._clock.monotonic()
        known = self._secrets and now < self._asked_at + SECRET_SECONDS
        if known or self._remote is None:
            return
        self._asked_at = now
        try:
            secret = await self._guard.call(self._remote.secret)
        except TierError:
            return
        self._secrets = [secret, *(each for each in self._secrets if each != secret)][:2]

    async def keep(self) -> None:
        """Go on asking for the secret, so that it is neither lost nor missed."""
        while True:
            await self._clock.sleep(SECRET_SECONDS)
            await self.learn()

    def token(self, record: Invalidation, *, queued: bool) -> str:
        """Return the token of an invalidation; empty while the secret is not known."""
        if not self._secrets:
            return ""
        secret = self._secrets[0]
        token = self._signed(secret, record, queued=queued)
        if len(token) > MAX_BYTES:
            whole = Invalidation(record.id, tags=(NAMESPACE,), at=record.at)
            token = self._signed(secret, whole, queued=queued)
        return token

    async def opened(self, token: str) -> tuple[Invalidation, bool] | None:
        """Return what a token says, and whether L2 had not confirmed it; `None` for no token."""
        await self.learn()
        if not isinstance(token, str) or len(token) > 2 * MAX_BYTES:
            return None
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (ValueError, binascii.Error):
            return None
        payload, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        if not any(compare_digest(signature, _sign(each, payload)) for each in self._secrets):
            return None
        try:
            version, record_id, keys, tags, at, queued = _msgpack.unpackb(payload)
        except (ValueError, TypeError):
            return None
        # It is signed, but maybe by another release.
        if version != _VERSION:
            return None
        return Invalidation(record_id, tuple(keys), tuple(tags), at=at), queued

    @staticmethod
    def _signed(secret: bytes, record: Invalidation, *, queued: bool) -> str:
        fields = (_VERSION, record.id, record.keys, record.tags, record.at, queued)
        payload = cast("bytes", _msgpack.packb(fields))
        raw = payload + _sign(secret, payload)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _sign(secret: bytes, payload: bytes) -> bytes:
    return blake2b(
        payload, digest_size=_SIGNATURE_BYTES, key=secret, person=b"tiercache.token"
    ).digest()
