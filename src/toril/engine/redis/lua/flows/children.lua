-- What has become of a job's children.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] id.
-- Answers {keys of pending ones, {key, result, name} of completed ones, {key, reason, name} of failed ones that are told, keys of those
-- that failed and the parent with them}. A name is empty when the child is not there any more.

local key = ARGV[1] .. ARGV[5]

local function told(name)
  local flat = redis.call('HGETALL', key .. name)
  local found = {}
  for at = 1, #flat, 2 do
    found[#found + 1] = { flat[at], flat[at + 1], redis.call('HGET', flat[at], 'name') or '' }
  end
  return found
end

return {
  redis.call('SMEMBERS', key .. ':dependencies'), told(':processed'), told(':failed'), redis.call('ZRANGE', key .. ':unsuccessful', 0, -1),
}
