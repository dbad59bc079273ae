-- OUTCOME(id, channel, rank, record, intent record, header): record what became known.
-- Facts are never fenced: any process that learnt the result may record it. A log that lost the intent gets it
-- back first. A log that is gone is created, if a header is given, with an epoch that no owner has, so that no
-- claim fits it.
-- An operator's `failed` is below the sender's, who knows how it failed: that is recorded beside it.
local key, id, rank = KEYS[1], ARGV[1], tonumber(ARGV[3])
local log = redis.call('LRANGE', key, 0, -1)
if #log == 0 then
  if ARGV[6] == '' then
    return {'RECLAIM'}
  end
  redis.call('RPUSH', key, ARGV[6])
  log = {ARGV[6]}
end
if not epoch_of(log[1]) then
  return foreign(log[1])
end

-- The highest rank recorded of the attempt, but for an operator's `failed`; whether that is recorded.
local known, said = -1, false
for i = 2, #log do
  -- A plain search first: taking every record apart is most of what a long log costs.
  if find(log[i], id, 1, true) then
    local kind, rid = match(log[i], RECORD)
    local r = kind and RANK[kind]
    if r and attempt_of(rid) == id then
      if kind == 'resolve.failed' then
        said = true
      elseif r > known then
        known = r
      end
    end
  end
end
if known >= rank then
  return {'NOOP', known}
end
if said and rank < RANK['resolve.failed'] then
  return {'NOOP', RANK['resolve.failed']}
end
local before = chain_at(log[#log], #log - 1)
if not before then
  return foreign(log[1])
end
redis.call('PERSIST', key)
local chain, appended = before, 0
if known < 0 and not said and ARGV[5] ~= '' then
  chain = append(key, chain, ARGV[5])
  appended = 1
end
chain = append(key, chain, ARGV[4])
appended = appended + 1
return {'OK', #log - 1 + appended, before, chain, appended}
