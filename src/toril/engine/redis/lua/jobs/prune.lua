-- Delete Toril's own finished jobs that are past their bounds, a part per call, and trim the event log.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] age in seconds or '' and [6] count or '' for completed jobs, [7] and [8] the same
-- for failed ones, [9] most jobs of each state, [10] events to keep.
-- Answers how many were deleted.
-- include: queue
-- include: parents
-- include: removal

local queue = queue_of(base)
local most = tonumber(ARGV[9])

local function prune(name, age, count)
  local finished = base .. name
  local deleted = 0
  if age then
    local old = redis.call('ZRANGEBYSCORE', finished, '-inf', whole(now - age * 1000), 'LIMIT', 0, most)
    deleted = expire(queue, finished, old, true)
  end
  if count then
    local excess = redis.call('ZCARD', finished) - count
    if excess > 0 then
      local old = redis.call('ZRANGE', finished, 0, math.min(excess, most) - 1)
      deleted = deleted + expire(queue, finished, old, true)
    end
  end
  return deleted
end

local deleted = prune('completed', tonumber(ARGV[5]), tonumber(ARGV[6])) + prune('failed', tonumber(ARGV[7]), tonumber(ARGV[8]))
redis.call('XTRIM', base .. 'events', 'MAXLEN', '~', ARGV[10])
return deleted
