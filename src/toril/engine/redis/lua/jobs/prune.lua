-- Delete Toril's own finished jobs that are past their bounds, a part per call, and trim the event log.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] age in seconds or '' and [6] count or '' for completed jobs, [7] and [8] the same
-- for failed ones, [9] most jobs of each state, [10] events to keep.
-- Answers how many were deleted.
-- include: queue
-- include: parents
-- include: removal

local queue = queue_of(base)
local most = tonumber(ARGV[9])

-- Jobs of other producers are left alone; they are passed over a thousand at a time.
local function ours(ids)
  local found = {}
  for _, id in ipairs(ids) do
    local opts = redis.call('HGET', base .. id, 'opts')
    if opts and string.find(opts, '"toril":', 1, true) then
      found[#found + 1] = id
    end
  end
  return found
end

local function prune(name, age, count)
  local finished = base .. name
  local deleted = 0
  if age then
    local old = ours(redis.call('ZRANGEBYSCORE', finished, '-inf', whole(now - age * 1000), 'LIMIT', 0, most))
    expire(queue, finished, old)
    deleted = #old
  end
  if count then
    local excess = redis.call('ZCARD', finished) - count
    if excess > 0 then
      local old = ours(redis.call('ZRANGE', finished, 0, math.min(excess, most) - 1))
      expire(queue, finished, old)
      deleted = deleted + #old
    end
  end
  return deleted
end

local deleted = prune('completed', tonumber(ARGV[5]), tonumber(ARGV[6])) + prune('failed', tonumber(ARGV[7]), tonumber(ARGV[8]))
redis.call('XTRIM', base .. 'events', 'MAXLEN', '~', ARGV[10])
return deleted
