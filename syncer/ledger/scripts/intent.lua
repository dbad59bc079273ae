-- INTENT(epoch, id, channel, record, max): open an attempt. Nothing is sent without its OK.
-- The order of the guards is part of the protocol: a recorded success must answer before a
-- repeated id does, or the retry of a lost reply would send after that success.
local key, epoch, id, channel = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local log = redis.call('LRANGE', key, 0, -1)
local known, ids, count, done = {}, {}, 0, false
for i = 2, #log do
  -- Plain searches: a pattern with three captures takes a third longer, and this loop is most of a
  -- long log's cost.
  local element = log[i]
  local one = find(element, ' ', 1, true)
  local rank = one and RANK[sub(element, 1, one - 1)]
  local two = rank and find(element, ' ', one + 1, true)
  local three = two and find(element, ' ', two + 1, true)
  if three then
    local attempt = attempt_of(sub(element, one + 1, two - 1))
    if sub(element, two + 1, three - 1) == channel then
      if known[attempt] == nil then
        count = count + 1
        ids[count] = attempt
      end
      if rank == 3 then
        done = true
      end
    end
    if rank > (known[attempt] or -1) then
      known[attempt] = rank
    end
  end
end
if done then
  return {'DONE'}
end
if known[id] ~= nil then
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
for i = 1, count do
  if known[ids[i]] == 0 then
    return {'OPEN', ids[i]}
  end
end
if count >= tonumber(ARGV[5]) then
  return {'EXHAUSTED', count}
end
local before = chain_at(log[#log], #log - 1)
if not before then
  return foreign(log[1])
end
local chain = append(key, before, ARGV[4])
redis.call('PERSIST', key)
return {'OK', #log, before, chain, 1}
