-- Plan the run that comes after one which has started.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] schedule, [6] id of the run, [7] time of the next run by a cron expression, or '',
-- [8] name and [9] data where the schedule has none, [10..13] head, quoted, priority, lifo: see lib/runs.
-- Answers {id of the run, its time}, or nothing when none is to be planned.
-- include: runs

local queue = queue_of(base)
local schedule = ARGV[5]
local key = base .. 'repeat:' .. schedule
local previous = tonumber(redis.call('ZSCORE', base .. 'repeat', schedule) or '')
-- Only the run that was planned last plans the next one: no retry, no stall, and none that an upsert has replaced.
if not previous or ARGV[6] ~= run_id(schedule, previous) then
  return false
end
local stored = redis.call('HMGET', key, 'every', 'offset', 'endDate', 'name', 'data', 'startDate')
local every = tonumber(stored[1] or '')
local due = tonumber(ARGV[7])
if every then
  due = next_interval(every, tonumber(stored[2] or '') or 0, previous, tonumber(stored[6] or ''))
  local last = tonumber(stored[3] or '')
  if last and due > last then
    return false
  end
end
if not due then
  return false
end
if redis.call('EXISTS', base .. run_id(schedule, due)) == 1 then
  event(queue, 'duplicated', 'jobId', run_id(schedule, due))
  return false
end
redis.call('ZADD', base .. 'repeat', whole(due), schedule)
redis.call('HINCRBY', key, 'ic', 1)
return plan_run(queue, schedule, due, {
  name = stored[4] or ARGV[8], data = stored[5] or ARGV[9], head = ARGV[10], quoted = ARGV[11], priority = tonumber(ARGV[12]),
  lifo = ARGV[13] == '1', pattern = not every,
})
