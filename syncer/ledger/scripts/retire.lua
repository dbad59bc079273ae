-- RETIRE(epoch, ttl, audited): let the log of a deleted object expire; with audited = 1 only if the
-- audit feed has handed all of it over.
local key = KEYS[1]
local log = redis.call('LRANGE', key, 0, -1)
if #log == 0 then
  return {'OK', 0}
end
local stored = epoch_of(log[1])
if not stored then
  return foreign(log[1])
end
if stored ~= ARGV[1] then
  return {'RECLAIM', stored}
end
local known = {}
for i = 2, #log do
  local kind, rid = match(log[i], RECORD)
  local rank = kind and RANK[kind]
  if rank then
    local attempt = attempt_of(rid)
    if rank > (known[attempt] or -1) then
      known[attempt] = rank
    end
  end
end
for _, rank in pairs(known) do
  if rank == 0 then
    return {'RECLAIM', stored}
  end
end
if ARGV[3] == '1' and tonumber(match(log[1], ' audited=(%d+)')) < #log - 1 then
  return {'STALE', stored}
end
redis.call('EXPIRE', key, tonumber(ARGV[2]))
return {'OK', 1}
