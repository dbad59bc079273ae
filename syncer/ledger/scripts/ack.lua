-- ACK(position, chain, ttl, marks): everything up to a position is in the status (acked), in the
-- audit feed (audited), or both. The log may expire only when both marks stand at its last record,
-- and this very call speaks of that record: its caller has seen the whole history.
local key, position, ttl = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[3])
local header = redis.call('LINDEX', key, 0)
if not header then
  return {'STALE'}
end
if not epoch_of(header) then
  return foreign(header)
end
local element = position > 0 and redis.call('LINDEX', key, position)
if not element then
  return {'STALE'}
end
local chain = chain_at(element, position)
if chain ~= ARGV[2] then
  return {'STALE'}
end
local new = header
for mark in string.gmatch(ARGV[4], '%a+') do
  local old = tonumber(string.match(new, ' ' .. mark .. '=(%d+)'))
  if old < position then
    new = string.gsub(new, ' ' .. mark .. '=%d+', ' ' .. mark .. '=' .. string.format('%d', position), 1)
  end
end
if new ~= header then
  redis.call('LSET', key, 0, new)
end
local last = redis.call('LLEN', key) - 1
if ttl > 0 and position == last then
  local acked = tonumber(string.match(new, ' acked=(%d+)'))
  local audited = tonumber(string.match(new, ' audited=(%d+)'))
  if acked == last and audited == last then
    redis.call('EXPIRE', key, ttl)
    return {'OK', 1}
  end
end
return {'OK', 0}
