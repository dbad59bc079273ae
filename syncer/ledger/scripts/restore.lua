-- RESTORE(ttl, elements...): bring in an exported log. A log that is there must be the beginning of
-- it, or hold it; records are compared as stored, and only what is missing is appended.
local key, ttl = KEYS[1], tonumber(ARGV[1])
local log = redis.call('LRANGE', key, 0, -1)
local count = #ARGV - 1
if not epoch_of(ARGV[2]) then
  return foreign(ARGV[2])
end
if #log == 0 then
  for i = 2, #ARGV do
    redis.call('RPUSH', key, ARGV[i])
  end
  if ttl > 0 then
    redis.call('EXPIRE', key, ttl)
  end
  return {'OK', count - 1}
end
if not epoch_of(log[1]) then
  return foreign(log[1])
end
for i = 2, math.min(#log, count) do
  if log[i] ~= ARGV[i + 1] then
    return {'APART', i - 1}
  end
end
if #log >= count then
  return {'NOOP', #log - 1}
end
for i = #log + 1, count do
  redis.call('RPUSH', key, ARGV[i + 1])
end
redis.call('PERSIST', key)
return {'OK', count - #log}
