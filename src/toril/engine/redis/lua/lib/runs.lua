-- The runs of job schedulers.
-- include: queue

local function run_id(schedule, due)
  return 'repeat:' .. schedule .. ':' .. whole(due)
end

-- When the next run of an interval is due: see next_interval in jobs/schedule.py.
local function next_interval(every, offset, previous, start)
  local phase = math.floor(now / every) * every + offset
  if phase <= now then
    phase = phase + every
  end
  if previous then
    local due = previous + every
    return due < now and phase or due
  elseif start then
    return math.max(start, now)
  elseif offset > 0 then
    return phase
  end
  return now
end

-- Make the job of a run. `run` has name, data, head (its options without the closing brace), quoted (the id of a run up to
-- its time, as JSON without the closing quote), priority, lifo and pattern (whether a cron expression says when).
local function plan_run(queue, schedule, due, run)
  local id = run_id(schedule, due)
  local delay = math.max(0, due - now)
  local opts = run.head .. ',"jobId":' .. run.quoted .. whole(due) .. '","delay":' .. whole(delay)
  if run.pattern then
    opts = opts .. ',"prevMillis":' .. whole(due)
  end
  sized(queue)
  redis.call('INCR', queue.base .. 'id')
  redis.call('HSET', queue.base .. id, 'name', run.name, 'data', run.data, 'opts', opts .. '}', 'timestamp', whole(now),
    'delay', whole(delay), 'priority', whole(run.priority), 'rjk', schedule)
  event(queue, 'added', 'jobId', id, 'name', run.name)
  if delay > 0 then
    put_in_delayed(queue, id, due)
    mark_delayed(queue)
  else
    put_in_line(queue, id, run.priority, run.lifo)
    event(queue, 'waiting', 'jobId', id)
    mark(queue)
  end
  return { id, whole(due) }
end
