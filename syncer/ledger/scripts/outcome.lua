-- OUTCOME(id, channel, rank, record, intent record, header): record what became known.
-- Facts are never fenced: whoever learnt the result may say so. A log that lost the intent gets it
-- back first; a log that is gone is created with the epoch of nobody, so that no claim fits it.
-- An operator's `failed` is below the sender's, who knows how it failed: that is recorded beside it.
local key, id, rank = KEYS[1], ARGV[1], tonumber(ARGV[3])

-- An attempt's intent is its first record. Where the last few elements hold it, they hold all that is
-- known of the attempt, and a long log, most of this script's time, need not be read.
local FEW = 6

-- The highest rank recorded of the attempt in these elements, but for an operator's `failed`; whether its
-- intent is among them; whether that resolution is.
local function look(elements)
  local known, opened, said = -1, false, false
  for i = 1, #elements do
    -- A plain search first: taking every record apart is most of what a long log costs.
    if find(elements[i], id, 1, true) then
      local kind, rid = match(elements[i], RECORD)
      local r = kind and RANK[kind]
      if r and attempt_of(rid) == id then
        opened = opened or kind == 'intent'
        if kind == 'resolve.failed' then
          said = true
        elseif r > known then
          known = r
        end
      end
    end
  end
  return known, opened, said
end

local log = redis.call('LRANGE', key, -FEW, -1)
local known, opened, said = look(log)
local header, size = log[1], #log
if size == FEW and opened then
  header, size = redis.call('LINDEX', key, 0), redis.call('LLEN', key)
elseif size == FEW then
  log = redis.call('LRANGE', key, 0, -1)
  header, size = log[1], #log
  known, opened, said = look(log)
elseif size == 0 then
  redis.call('RPUSH', key, ARGV[6])
  log = {ARGV[6]}
  header, size = ARGV[6], 1
end
if not epoch_of(header) then
  return foreign(header)
end
if known >= rank then
  return {'NOOP', known}
end
if said and rank < RANK['resolve.failed'] then
  return {'NOOP', RANK['resolve.failed']}
end
local before = chain_at(log[#log], size - 1)
if not before then
  return foreign(header)
end
local chain, appended = before, 0
if known < 0 and not said and ARGV[5] ~= '' then
  chain = append(key, chain, ARGV[5])
  appended = 1
end
chain = append(key, chain, ARGV[4])
appended = appended + 1
redis.call('PERSIST', key)
return {'OK', size - 1 + appended, before, chain, appended}
