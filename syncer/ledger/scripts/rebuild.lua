-- REBUILD(length, last, elements...): an operator puts a legible log in the place of one that nobody
-- can read. Only if it is still the very log that was looked at; its copy was kept aside before.
local key = KEYS[1]
if redis.call('LLEN', key) ~= tonumber(ARGV[1]) or redis.call('LINDEX', key, -1) ~= ARGV[2] then
  return {'STALE'}
end
if not epoch_of(ARGV[3]) then
  return foreign(ARGV[3])
end
redis.call('DEL', key)
for i = 3, #ARGV do
  redis.call('RPUSH', key, ARGV[i])
end
return {'OK', #ARGV - 3}
