-- PROBE(padding, writing): execute what a CLAIM and an INTENT execute, on a key that holds no log, and answer
-- with the padding, so that packets of both directions are as large as those of a long log. Without `writing`
-- the commands find no key and change nothing: nothing is stored, saved, or passed on to a replica.
local key = KEYS[1]
if not server_stamp() then
  return unstamped()
end
redis.call('LRANGE', key, 0, -1)
redis.call('PERSIST', key)
if ARGV[2] == '1' then
  redis.call('RPUSH', key, 'x')
  redis.call('LSET', key, 0, 'x')
  redis.call('EXPIRE', key, 10)
end
return {'OK', ARGV[1]}
