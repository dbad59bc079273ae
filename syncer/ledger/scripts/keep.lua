-- KEEP(ttl, elements...): on a key beside the logs, keep what a log held before it is replaced, for a
-- time. The whole copy and its time come about at once, so that none is left for ever.
local key = KEYS[1]
local kept = redis.call('LRANGE', key, 0, -1)
if #kept > 0 then
  for i = 1, math.max(#kept, #ARGV - 1) do
    if kept[i] ~= ARGV[i + 1] then
      return {'APART', i - 1}
    end
  end
  return {'NOOP', #kept}
end
for i = 2, #ARGV do
  redis.call('RPUSH', key, ARGV[i])
end
redis.call('EXPIRE', key, tonumber(ARGV[1]))
return {'OK', #ARGV - 1}
