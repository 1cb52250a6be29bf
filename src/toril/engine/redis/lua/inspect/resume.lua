-- End a pause, a part per call.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] most jobs to move.
-- Answers 1 when the queue runs, 0 when the call must be repeated.
-- What BullMQ 5 has put in `paused` runs before what others have added to `wait` since: it is joined to its right end.
-- include: queue

local most = tonumber(ARGV[5])
local wait, paused = base .. 'wait', base .. 'paused'
local moved = redis.call('EXISTS', paused) == 1
if moved then
  if redis.call('EXISTS', wait) == 0 then
    redis.call('RENAME', paused, wait)
  else
    local ids = redis.call('LRANGE', paused, 0, most - 1)
    for first = 1, #ids, 1000 do
      redis.call('RPUSH', wait, unpack(ids, first, math.min(first + 999, #ids)))
    end
    redis.call('LTRIM', paused, #ids, -1)
    if redis.call('EXISTS', paused) == 1 then
      return 0
    end
  end
end
local was_paused = redis.call('HDEL', base .. 'meta', 'paused') == 1
if not was_paused and not moved then
  return 1
end
local queue = queue_of(base)
sized(queue)
if redis.call('EXISTS', wait) == 1 or redis.call('EXISTS', base .. 'prioritized') == 1 then
  mark(queue)
else
  mark_delayed(queue)
end
if was_paused then
  event(queue, 'resumed')
end
return 1
