-- Delete a schedule, and its planned run while that is delayed.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] schedule.
-- Answers 1, or 0 when there is no such schedule.
-- include: runs
-- include: removal

local queue = queue_of(base)
local schedule = ARGV[5]
local due = tonumber(redis.call('ZSCORE', base .. 'repeat', schedule) or '')
if not due then
  return 0
end
local id = run_id(schedule, due)
if redis.call('ZREM', base .. 'delayed', id) == 1 then
  delete_job(queue, id)
  event(queue, 'removed', 'jobId', id, 'prev', 'delayed')
end
redis.call('ZREM', base .. 'repeat', schedule)
redis.call('DEL', base .. 'repeat:' .. schedule)
return 1
