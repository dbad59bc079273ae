-- CLAIM(epoch, header, seeds...): raise the fence, join what the caller knows, read everything, and tell the
-- stamp that INTENT compares. Refused when a later owner has already claimed. Creates the log if it is absent.

-- -1, 0 or 1; part by part, a longer number is the larger one.
local function compare(a, b)
  local ai, ar = match(a, '^(%d+)%.(%d+)$')
  local bi, br = match(b, '^(%d+)%.(%d+)$')
  local left, right = {ai, ar}, {bi, br}
  for part = 1, 2 do
    local l, r = left[part], right[part]
    if #l ~= #r then
      return #l < #r and -1 or 1
    end
    if l ~= r then
      return l < r and -1 or 1
    end
  end
  return 0
end

local key, epoch = KEYS[1], ARGV[1]
local stamp = server_stamp()
if not stamp then
  return unstamped()
end
local log = redis.call('LRANGE', key, 0, -1)
local changed = false
if #log == 0 then
  redis.call('RPUSH', key, ARGV[2])
  log = {ARGV[2]}
  changed = true
end
local stored = epoch_of(log[1])
if not stored then
  return foreign(log[1])
end
local order = compare(epoch, stored)
if order < 0 then
  return {'FENCED', stored}
end
if order > 0 then
  redis.call('LSET', key, 0, (string.gsub(log[1], 'epoch=%S+', 'epoch=' .. epoch, 1)))
end
local known, sound = {}, true
for i = 2, #log do
  local kind, id = match(log[i], RECORD)
  if kind == nil then
    -- The caller will see it too and send nothing; seeds behind it would be added at every claim.
    sound = false
    break
  end
  local rank = RANK[kind]
  if rank == nil then
    known[id] = 99
  else
    local attempt = attempt_of(id)
    if rank > (known[attempt] or -1) then
      known[attempt] = rank
    end
  end
end
local chain = chain_at(log[#log], #log - 1)
if sound then
  for i = 3, #ARGV do
    local kind, id = string.match(ARGV[i], '^(%S+) (%S+) ')
    local rank = RANK[kind] or 99
    if rank > (known[id] or -1) then
      chain = append(key, chain, ARGV[i])
      known[id] = rank
      changed = true
    end
  end
end
if changed then
  redis.call('PERSIST', key)
end
return {'OK', redis.call('LRANGE', key, 0, -1), redis.call('TIME'), stamp}
