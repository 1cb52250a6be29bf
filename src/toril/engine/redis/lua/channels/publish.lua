-- Append messages to a channel, trim it, and let it live on.
-- KEYS[1] the channel's stream. ARGV[1] messages to keep, [2] time to live in ms, [3] token of this call, [4] '1' when it may have
-- been run before, [5..] the messages.
-- Each entry holds `m` the message, `p` the id before it ('0' for the first of the channel), `t` the token.
-- Answers the ids of the messages.

local key = KEYS[1]
local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]

local function field(entry, name)
  for at = 1, #entry[2], 2 do
    if entry[2][at] == name then
      return entry[2][at + 1]
    end
  end
end

if ARGV[4] == '1' then
  local ids = {}
  for _, entry in ipairs(redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1000)) do
    if field(entry, 't') == ARGV[3] then
      table.insert(ids, 1, entry[1])
    end
  end
  if #ids > 0 then
    return ids
  end
end

local ids, before = {}, newest and newest[1] or '0'
for at = 5, #ARGV do
  before = redis.call('XADD', key, 'MAXLEN', ARGV[1], '*', 'm', ARGV[at], 'p', before, 't', ARGV[3])
  ids[#ids + 1] = before
end
redis.call('PEXPIRE', key, ARGV[2])
return ids
