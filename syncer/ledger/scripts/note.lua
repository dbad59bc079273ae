-- NOTE(id, record, position, chain): a plan, a skip, a manual resolution, a resend request or a repair; once
-- per id, on a log that exists. `position` and `chain` are of the last record on which a resend request is
-- based: a log without that was made anew, and may lack deliveries.
-- The caller has looked a resolution up before: by now as much may be known.
local key, id = KEYS[1], ARGV[1]
local log = redis.call('LRANGE', key, 0, -1)
if #log == 0 then
  return {'NOOP', -1}
end
if not epoch_of(log[1]) then
  return foreign(log[1])
end
local position = tonumber(ARGV[3])
local base = position and log[position + 1]
if position and (not base or chain_at(base, position) ~= ARGV[4]) then
  return {'NOOP', -1}
end
local rank, attempt, known = RANK[match(ARGV[2], '^[^ ]+')], attempt_of(id), -1
for i = 2, #log do
  local kind, rid = match(log[i], RECORD)
  if rid == id then
    return {'NOOP', i - 1}
  end
  local r = rank and kind and RANK[kind]
  if r and r > known and attempt_of(rid) == attempt then
    known = r
  end
end
if rank and known >= rank then
  return {'DUP', known}
end
return appended(key, log, ARGV[2])
