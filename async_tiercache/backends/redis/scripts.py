"""The Lua scripts of entries and leases: whatever stores a value compares before it writes.

A lease or mark is exactly 17 bytes and begins with ``L``; a frame begins with ``V`` and carries its
16-byte entry id at a fixed offset; a block begins with ``B`` and is never overwritten. Only strings
of 17 bytes are compared whole, so that no script copies a large value.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Final, Protocol

from redis.exceptions import NoScriptError

from async_tiercache.codecs.frame import ENTRY_ID_OFFSET, LEASE_BYTES, STAMP_OFFSET

BLOCK_PREFIX: Final = b"B"
"""What a block begins with."""
BLOCK_TOKEN_BYTES: Final = 16
BLOCK_DIGITS: Final = 13
BLOCK_PART_BYTES: Final = BLOCK_TOKEN_BYTES + BLOCK_DIGITS
"""What a block has for each who blocks; the state of a tag is never so long, whatever it is."""

IS_STRING: Final = """
local function is_string(name) return redis.call('TYPE', name).ok == 'string' end
"""
IS_BLOCK: Final = f"""
{IS_STRING}
local function is_block(name)
  if not is_string(name) then return false end
  local size = redis.call('STRLEN', name)
  return size > 1 and size % {BLOCK_PART_BYTES} == 1
    and redis.call('GETRANGE', name, 0, 0) == '{BLOCK_PREFIX.decode()}'
end
"""

# To wake is a help, and what was done stays done where the user may not publish there.
_WAKE: Final = """
local function wake(flag)
  if flag and redis.call('DEL', flag) == 1 then redis.pcall('PUBLISH', flag, '') end
end
"""
# An entry may get an id twice, when a command that softens it is carried out twice. Whatever came
# between has taken the mark away.
_MARKED: Final = """
local function is_marked()
  return ARGV[4] == '' or (is_string(KEYS[3]) and redis.call('GET', KEYS[3]) == ARGV[4])
end
"""
# Who repeats a command whose reply was lost finds what it has put there. Nobody else makes its id,
# and whatever came between has put another one there, or nothing.
_IS_THERE: Final = f"""
local function is_there(id)
  return is_string(KEYS[1])
    and redis.call('GETRANGE', KEYS[1], {ENTRY_ID_OFFSET}, {ENTRY_ID_OFFSET + 15}) == id
end
"""
_REMOVE_MARK: Final = """
if ARGV[4] ~= '' then redis.call('DEL', KEYS[3]) end
"""


def _on_ours(command: str) -> str:
    """Return a script part that runs a command on the name that holds what is ours, if one does."""
    return f"""
{IS_STRING}
local function on_ours(names)
  for _, key in ipairs(names) do
    if is_string(key) and redis.call('STRLEN', key) == {LEASE_BYTES}
      and redis.call('GET', key) == ARGV[1] then
      return {command}
    end
  end
  return 0
end
"""


# KEYS: the key, its waiters, its mark. ARGV: fence, frame, milliseconds, our mark or "".
# Without waiters: the key alone. Who waited for a load that may not store it waits in vain as well.
COMMIT: Final = f"""
{IS_STRING}
{_WAKE}
{_MARKED}
{_IS_THERE}
local function held(name, fence)
  if not is_string(name) then return nil end
  if #fence ~= {LEASE_BYTES} then
    return redis.call('GETRANGE', name, {ENTRY_ID_OFFSET}, {ENTRY_ID_OFFSET + 15})
  end
  if redis.call('STRLEN', name) == {LEASE_BYTES} then return redis.call('GET', name) end
end
if held(KEYS[1], ARGV[1]) ~= ARGV[1] or not is_marked() then
  wake(KEYS[2])
  return is_there(string.sub(ARGV[2], {ENTRY_ID_OFFSET + 1}, {ENTRY_ID_OFFSET + 16})) and 1 or 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
{_REMOVE_MARK}
wake(KEYS[2])
return 1
"""

# KEYS: the key, its waiters, its mark. ARGV: entry id, stamp, milliseconds, our mark or "".
STAMP: Final = f"""
{IS_STRING}
{_MARKED}
{_IS_THERE}
if is_there(string.sub(ARGV[2], 1, 16)) then return 1 end
if not is_string(KEYS[1]) or not is_marked() then return 0 end
if redis.call('GETRANGE', KEYS[1], {ENTRY_ID_OFFSET}, {ENTRY_ID_OFFSET + 15}) ~= ARGV[1] then
  return 0
end
redis.call('SETRANGE', KEYS[1], {STAMP_OFFSET}, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
{_REMOVE_MARK}
return 1
"""

# KEYS: the key. ARGV: lease, milliseconds, the bytes to replace. Another type is replaced as well.
REPLACE: Final = f"""
{IS_BLOCK}
if is_string(KEYS[1]) then
  local held = redis.call('GET', KEYS[1])
  if held ~= ARGV[3] or is_block(KEYS[1]) then return held end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""

# KEYS: the key. ARGV: lease, milliseconds. Another type is replaced as well.
SEIZE: Final = f"""
{IS_BLOCK}
if is_block(KEYS[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# KEYS: the key, its mark, its waiters; or one of the first two. ARGV: our lease or mark.
RELEASE: Final = f"""
{_on_ours("redis.call('DEL', key)")}
{_WAKE}
local removed = on_ours({{KEYS[1], KEYS[2]}})
wake(KEYS[3])
return removed
"""

# KEYS: the key's waiters. Wakes them, where a script on the key could not.
WAKE: Final = f"""
{_WAKE}
wake(KEYS[1])
return 1
"""

# KEYS: the key, its mark. ARGV: our lease or mark, milliseconds.
RENEW: Final = f"""
{_on_ours("redis.call('PEXPIRE', key, ARGV[2])")}
return on_ours(KEYS)
"""

# KEYS: the key, its waiters. ARGV: the lease that is waited for, milliseconds. What stands there.
WAIT: Final = f"""
{IS_STRING}
if not is_string(KEYS[1]) then return false end
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then redis.call('SET', KEYS[2], '', 'PX', ARGV[2]) end
return held
"""


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
