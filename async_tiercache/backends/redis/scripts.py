"""The Lua scripts: whatever stores a value compares before it writes.

A lease or mark is exactly 17 bytes and begins with ``L``; a frame begins with ``V`` and carries its
16-byte entry id at a fixed offset. Only strings of 17 bytes are compared whole, so that no script
copies a large value.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.exceptions import NoScriptError

from async_tiercache.codecs.frame import ENTRY_ID_OFFSET, LEASE_BYTES, STAMP_OFFSET

_REMOVE_MARK: Final = """
if ARGV[4] ~= '' and redis.call('TYPE', KEYS[2]).ok == 'string'
  and redis.call('GET', KEYS[2]) == ARGV[4] then
  redis.call('DEL', KEYS[2])
end
"""


def _on_ours(command: str) -> str:
    """Return a script that runs a command on the key or the mark, if that holds what is ours."""
    return f"""
for _, key in ipairs(KEYS) do
  if redis.call('TYPE', key).ok == 'string' and redis.call('STRLEN', key) == {LEASE_BYTES}
    and redis.call('GET', key) == ARGV[1] then
    return {command}
  end
end
return 0
"""


# KEYS: the key, its mark. ARGV: fence, frame, milliseconds, our mark or "".
COMMIT: Final = f"""
local fence, held = ARGV[1], nil
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return 0 end
if #fence == {LEASE_BYTES} then
  if redis.call('STRLEN', KEYS[1]) == {LEASE_BYTES} then held = redis.call('GET', KEYS[1]) end
else
  held = redis.call('GETRANGE', KEYS[1], {ENTRY_ID_OFFSET}, {ENTRY_ID_OFFSET + 15})
end
if held ~= fence then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
{_REMOVE_MARK}
return 1
"""

# KEYS: the key, its mark. ARGV: entry id, stamp, milliseconds, our mark or "".
STAMP: Final = f"""
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return 0 end
if redis.call('GETRANGE', KEYS[1], {ENTRY_ID_OFFSET}, {ENTRY_ID_OFFSET + 15}) ~= ARGV[1] then
  return 0
end
redis.call('SETRANGE', KEYS[1], {STAMP_OFFSET}, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
{_REMOVE_MARK}
return 1
"""

# KEYS: the key. ARGV: lease, milliseconds, the bytes to replace. Another type is replaced as well.
REPLACE: Final = """
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  local held = redis.call('GET', KEYS[1])
  if held ~= ARGV[3] then return held end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""

# KEYS: the key, its mark. ARGV: our lease or mark.
RELEASE: Final = _on_ours("redis.call('DEL', key)")

# KEYS: the key, its mark. ARGV: our lease or mark, milliseconds.
RENEW: Final = _on_ours("redis.call('PEXPIRE', key, ARGV[2])")


class _Submit(Protocol):
    def submit(self, *command: Any) -> "asyncio.Future[Any]": ...


async def run(route: _Submit, script: str, keys: Sequence[str], *arguments: Any) -> Any:
    """Run a script by its digest; send its text when the server does not know it."""
    digest = digest_of(script)
    try:
        return await route.submit("EVALSHA", digest, len(keys), *keys, *arguments)
    except NoScriptError:
        return await route.submit("EVAL", script, len(keys), *keys, *arguments)


_DIGESTS: dict[str, str] = {}


def digest_of(script: str) -> str:
    """Return the digest by which a server knows a script."""
    digest = _DIGESTS.get(script)
    if digest is None:
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        _DIGESTS[script] = digest
    return digest
