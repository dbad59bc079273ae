-- INTENT(epoch, id, channel, record, max, position, chain, stamp): open an attempt. Nothing is sent without
-- its OK. `position` and `chain` are of the last record on which the decision is based, `stamp` is what the
-- claim was answered.
-- The order of the guards is part of the protocol: a recorded success must answer before a
-- repeated id does, or the retry of a lost reply would send after that success.
-- A log may fall back to a state that its history cannot tell from the one decided on: without the records
-- that nobody has read yet. Only the stamp shows that; so an empty one is refused like another one.
local key, epoch, id, channel = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local log = redis.call('LRANGE', key, 0, -1)
local known, ids, count, done = {}, {}, 0, false
local here = channel .. ' '
for i = 2, #log do
  -- This loop is most of a long log's cost. A third capture costs more than to compare the channel
  -- where it stands.
  local element = log[i]
  local kind, attempt, at = match(element, '^([^ ]+) ([^ ]+) ()')
  local rank = kind and RANK[kind]
  if rank then
    attempt = attempt_of(attempt)
    local seen = known[attempt]
    if sub(element, at, at + #here - 1) == here then
      if not seen then
        count = count + 1
        ids[count] = attempt
      end
      if rank == 3 then
        done = true
      end
    end
    if not seen or rank > seen then
      known[attempt] = rank
    end
  end
end
if done then
  return {'DONE'}
end
if known[id] ~= nil then
  if known[id] == 0 then
    -- The first copy came over another connection, and WAIT speaks of its own connection's writes: one that
    -- changes nothing has it speak of that copy too, which was written before.
    redis.call('LSET', key, 0, log[1])
  end
  return {'DUP', known[id]}
end
if #log == 0 then
  return {'RECLAIM'}
end
local stored = epoch_of(log[1])
if not stored then
  return foreign(log[1])
end
if stored ~= epoch then
  return {'RECLAIM', stored}
end
local stamp = server_stamp()
if not stamp then
  return unstamped()
end
if stamp ~= ARGV[8] then
  return {'RECLAIM', 'server'}
end
local position = tonumber(ARGV[6])
local base = log[position + 1]
if not base or chain_at(base, position) ~= ARGV[7] then
  return {'RECLAIM', 'history'}
end
for i = 1, count do
  if known[ids[i]] == 0 then
    return {'OPEN', ids[i]}
  end
end
if count >= tonumber(ARGV[5]) then
  return {'EXHAUSTED', count}
end
return appended(key, log, ARGV[4])
