-- SWAP(before, after): replaces a value if it still is what was read; an empty `before` stands for no
-- value. Run again after a lost reply, it finds its own value and answers OK.
local now = redis.call('GET', KEYS[1]) or ''
if now ~= ARGV[1] and now ~= ARGV[2] then
  return {'STALE'}
end
if now ~= ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[2])
end
return {'OK'}
