-- RECOVER(epoch, id, record): the owner found an open intent that no process executes.
local key, epoch, id = KEYS[1], ARGV[1], ARGV[2]
local log = redis.call('LRANGE', key, 0, -1)
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
local known = -1
for i = 2, #log do
  local kind, rid = match(log[i], RECORD)
  local r = kind and RANK[kind]
  if r and attempt_of(rid) == id and r > known then
    known = r
  end
end
if known ~= 0 then
  return {'NOOP', known}
end
return appended(key, log, ARGV[3])
