"""The Lua scripts of what is no longer true: tags' states, blocks, and messages about both.

A tag's state is 44 bytes, by `tags.TagState`. Its ids end in the server's time, so that each time a
script runs it makes others: a command may be carried out twice, or late. A block is ``B`` and for
each who blocks a token of 16 bytes and the 13 digits of when it ends, in milliseconds of the
server's clock. A message is an id of 16 bytes and what the client has packed.
"""

from typing import Final

from async_tiercache.backends.redis.scripts import (
    BLOCK_DIGITS,
    BLOCK_PART_BYTES,
    BLOCK_TOKEN_BYTES,
    IS_BLOCK,
)
from async_tiercache.codecs.frame import STAMP_BYTES, STAMP_OFFSET
from async_tiercache.tags import ID_BYTES, STATE_BYTES

CHANCE_BYTES: Final = 6
"""What a client gives for the id of a tag; the server adds its time."""
MESSAGE_ID_BYTES: Final = 16
MESSAGE_CHANCE_BYTES: Final = MESSAGE_ID_BYTES - CHANCE_BYTES

_FRAME_PREFIX: Final = "VT\\3"  # of the version whose stamp is where we write one

# An id that was not used before begins with the client's chance and ends with this.
_TIME: Final = """
local time = redis.call('TIME')
local now = math.floor((time[1] * 1000000 + time[2]) / 1000)
local moment = ''
local rest = time[1] * 1000000 + time[2]
for _ = 1, 6 do
  local byte = rest % 256
  moment = string.char(byte) .. moment
  rest = (rest - byte) / 256
end
"""

_NEW_STATE: Final = f"""
local function new_state(chance)
  local id = chance .. moment
  return id .. id .. string.rep('\\0', {STATE_BYTES - 2 * ID_BYTES})
end
"""

# A full server refuses SET, unless the script has begun with a write that needs no memory. It must
# not be DEL: a node that is giving the slot away would refuse to set again what is not there.
_CHANGE_STATE: Final = f"""
{_NEW_STATE}
local function change_state(name, chance, soft)
  if is_block(name) then return end
  if not is_string(name) or redis.call('STRLEN', name) ~= {STATE_BYTES} then
    redis.call('DEL', name)
    return
  end
  local old, life = redis.call('GET', name), redis.call('PTTL', name)
  local state = new_state(chance)
  if soft then
    state = string.sub(old, 1, {ID_BYTES}) .. string.sub(state, 1, {ID_BYTES})
      .. string.sub(old, {ID_BYTES + 1}, {2 * ID_BYTES}) .. soft
  end
  redis.call('PERSIST', name)
  redis.call('SET', name, state)
  if life > 0 then redis.call('PEXPIRE', name, life) end
end
"""

_TELL: Final = """
local function tell(channel, chance, payload, last)
  local id = chance .. moment
  if last then
    redis.call('PERSIST', last)
    redis.call('SET', last, id)
  end
  redis.call('PUBLISH', channel, id .. payload)
end
"""

_BLOCKS: Final = f"""
local function blocks_of(name, without)
  local left, latest = '', 0
  if is_block(name) then
    local held = redis.call('GET', name)
    for start = 2, #held - {BLOCK_PART_BYTES - 1}, {BLOCK_PART_BYTES} do
      local part = string.sub(held, start, start + {BLOCK_PART_BYTES - 1})
      local deadline = tonumber(string.sub(part, {BLOCK_TOKEN_BYTES + 1})) or 0
      if deadline > now and string.sub(part, 1, {BLOCK_TOKEN_BYTES}) ~= without then
        left, latest = left .. part, math.max(latest, deadline)
      end
    end
  end
  return left, latest
end
local function put_blocks(name, blocks, latest)
  redis.call('PERSIST', name)
  redis.call('SET', name, 'B' .. blocks, 'PX', string.format('%.0f', latest - now))
end
"""

# In all of the following scripts
# KEYS: keys; tags; marks of keys; the tag whose state is replaced first; where the id of the last
# message is kept. What there is of the last two is told by ARGV and the number of KEYS.
# ARGV: the channel, 10 random bytes, the message or "", how many keys, tags and marks, 6 random
# bytes for the first tag or "".
_GIVEN: Final = """
local channel, chance, payload = ARGV[1], ARGV[2], ARGV[3]
local keys, tags, marks = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local given = keys + tags + marks
for mark = keys + tags + 1, given do redis.call('DEL', KEYS[mark]) end
if ARGV[7] ~= '' then
  given = given + 1
  change_state(KEYS[given], ARGV[7])
end
local last = KEYS[given + 1]
"""
GIVEN: Final = 7

# ARGV: a stamp or "", its milliseconds, the 8 bytes of until; 6 random bytes for each tag.
INVALIDATE: Final = f"""
{IS_BLOCK}
{_TIME}
{_CHANGE_STATE}
{_TELL}
{_GIVEN}
local stamp, life, soft = ARGV[{GIVEN + 1}], tonumber(ARGV[{GIVEN + 2}]), ARGV[{GIVEN + 3}]
if stamp == '' then soft = nil end
local function is_entry(name)
  return is_string(name) and redis.call('STRLEN', name) >= {STAMP_OFFSET + STAMP_BYTES}
    and redis.call('GETRANGE', name, 0, 2) == '{_FRAME_PREFIX}'
end
for key = 1, keys do
  local name = KEYS[key]
  if soft and is_entry(name) then
    redis.call('SETRANGE', name, {STAMP_OFFSET}, stamp)
    local left = redis.call('PTTL', name)
    if left < 0 or left > life then redis.call('PEXPIRE', name, ARGV[{GIVEN + 2}]) end
  elseif not is_block(name) then
    redis.call('DEL', name)
  end
end
for tag = 1, tags do
  change_state(KEYS[keys + tag], ARGV[{GIVEN + 3} + tag], soft)
end
if payload ~= '' then tell(channel, chance, payload, last) end
return 1
"""

# ARGV: the token, milliseconds, whether all shall be told although the block is there already.
BLOCK: Final = f"""
{IS_BLOCK}
{_TIME}
{_CHANGE_STATE}
{_BLOCKS}
{_TELL}
{_GIVEN}
local token, life = ARGV[{GIVEN + 1}], tonumber(ARGV[{GIVEN + 2}])
local telling = ARGV[{GIVEN + 3}] == '1'
local deadline = now + life
local own = token .. string.format('%0{BLOCK_DIGITS}.0f', deadline)
local function block(name)
  local before = blocks_of(name, '')
  local blocks, latest = blocks_of(name, token)
  if blocks == before then telling = true end
  put_blocks(name, blocks .. own, math.max(latest, deadline))
end
for name = 1, keys + tags do block(KEYS[name]) end
if telling then tell(channel, chance, payload, last) end
return 1
"""

# ARGV: the token; 6 random bytes for each tag.
UNBLOCK: Final = f"""
{IS_BLOCK}
{_TIME}
{_BLOCKS}
{_CHANGE_STATE}
{_TELL}
{_GIVEN}
local token = ARGV[{GIVEN + 1}]
local function unblock(name)
  local blocks, latest = blocks_of(name, token)
  if blocks == '' then return false end
  put_blocks(name, blocks, latest)
  return true
end
for key = 1, keys do
  if not unblock(KEYS[key]) then redis.call('DEL', KEYS[key]) end
end
for tag = 1, tags do
  local name = KEYS[keys + tag]
  if not unblock(name) then
    if is_block(name) then
      redis.call('DEL', name)
    else
      change_state(name, ARGV[{GIVEN + 1} + tag])
    end
  end
end
tell(channel, chance, payload, last)
return 1
"""

# KEYS: each tag. ARGV: for each tag 6 random bytes and the milliseconds, "" for ever.
ENSURE: Final = f"""
{IS_BLOCK}
{_TIME}
{_NEW_STATE}
local states = {{}}
for tag, name in ipairs(KEYS) do
  if is_block(name) then
    states[tag] = ''
  elseif is_string(name) and redis.call('STRLEN', name) == {STATE_BYTES} then
    states[tag] = redis.call('GET', name)
    local life = redis.call('PTTL', name)
    if life >= 0 and ARGV[2 * tag] ~= '' and life < tonumber(ARGV[2 * tag]) then
      redis.call('PEXPIRE', name, ARGV[2 * tag])
    end
  else
    states[tag] = new_state(ARGV[2 * tag - 1])
    redis.call('SET', name, states[tag])
    if ARGV[2 * tag] ~= '' then redis.call('PEXPIRE', name, ARGV[2 * tag]) end
  end
end
return states
"""
