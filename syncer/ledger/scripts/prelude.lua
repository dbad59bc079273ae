-- Shared by every script; the loader puts it in front of each (see ledger/lua.py).
--
-- A log is one list. Element 0 is the header
--     nl1 object=<ns>/<name> epoch=<e> acked=<i> audited=<i>
-- and every further element a record that never changes:
--     <kind> <id> <channel> <crc32> <chain> <msgpack map>
-- Scripts decide on this plain text alone and never look into the map. A caller passes a record
-- without its chain; the chain is computed here, from the chain of the element before and the
-- record's text (whose crc32 stands for the map). Equal position and equal chain: equal history.
--
-- Only arithmetic that is exact in a double is used: no bit library, no sha1hex.
--
-- What a script has written stays if a later command of it is refused, as by the user's rights. So a record
-- is appended after everything else is written: its caller takes an error for "not appended".

local byte, find, format, match, sub = string.byte, string.find, string.format, string.match, string.sub

local ROOT = '00000000'

local RANK = {
  ['intent'] = 0, ['unknown'] = 1, ['failed'] = 2, ['success'] = 3,
  ['seed.intent'] = 0, ['seed.unknown'] = 1, ['seed.failed'] = 2, ['seed.success'] = 3,
  ['resolve.failed'] = 2, ['resolve.success'] = 3,
}

-- Gives kind, id and channel. Every record of a log is looked at by every append: no more is captured
-- than is needed, and a function around it would cost a tenth of a script's time.
local RECORD = '^([^ ]+) ([^ ]+) ([^ ]+) %x+ %x+ '

-- A manual resolution names its attempt in its own id: resolve:<attempt>:<state>.
local function attempt_of(id)
  if byte(id) == 114 then
    return match(id, '^resolve:(.-):') or id
  end
  return id
end

-- Nil if the header is not wholly of this format: the other functions rely on each of its members.
local function epoch_of(header)
  return match(header, '^nl1 object=[^ /]+/[^ /]+ epoch=(%d+%.%d+) acked=%d+ audited=%d+$')
end

local function next_chain(chain, text)
  local hash = tonumber(chain, 16)
  for i = 1, #text do
    hash = (hash * 65599 + byte(text, i)) % 4294967291
  end
  return format('%08x', hash)
end

local function chain_at(element, index)
  if index == 0 then
    return ROOT
  end
  return (match(element, '^[^ ]+ [^ ]+ [^ ]+ %x+ (%x+) '))
end

-- Appends a record and returns its chain.
local function append(key, chain, record)
  local _, stop = find(record, '^[^ ]+ [^ ]+ [^ ]+ %x+ ')
  local text = sub(record, 1, stop)
  local new = next_chain(chain, text)
  redis.call('RPUSH', key, text .. new .. ' ' .. sub(record, stop + 1))
  return new
end

local function foreign(header)
  return redis.error_reply('NLFORMAT the first element is not a header of this format')
end

-- Appends a record behind a log as it was read; returns the answer of every append.
local function appended(key, log, record)
  local before = chain_at(log[#log], #log - 1)
  if not before then
    return foreign(log[1])
  end
  redis.call('PERSIST', key)
  local chain = append(key, before, record)
  return {'OK', #log, before, chain, 1}
end

-- The state of this server: its role and its replication id. Every start, promotion and demotion gives it
-- another id, which never comes back; only these lose what a log has acknowledged. The role is part of it since
-- a writable replica has its primary's id. Nil if INFO cannot be had within a script, or does not show both.
local function server_stamp()
  local info = redis.pcall('INFO', 'replication')
  if type(info) ~= 'string' then
    return nil
  end
  local role, id = match(info, 'role:(%l+)'), match(info, 'master_replid:(%x+)')
  return role and id and role .. ':' .. id
end

local function unstamped()
  return redis.error_reply('NLSTAMP no role and master_replid from INFO within a script')
end
