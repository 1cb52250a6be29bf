-- Store a schedule, or replace the one of that id, and plan its next run.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] schedule, [6] name, [7] data or '', [8] options of the schedule or '', then each ''
-- when it is not given: [9] every, [10] pattern, [11] tz, [12] limit, [13] start, [14] end, [15] offset; [16] time of the first run
-- ('' with every); [17..20] head, quoted, priority, lifo: see lib/runs; [21] data of the run; [22] set of known queues, [23] queue.
-- Answers {id of the run, its time}; or {id} of the job that has that time.
-- include: runs
-- include: removal

local queue = queue_of(base)
local schedule, every = ARGV[5], tonumber(ARGV[9])
local key = base .. 'repeat:' .. schedule
local stored = redis.call('HMGET', key, 'every', 'offset', 'ic')
local previous = tonumber(redis.call('ZSCORE', base .. 'repeat', schedule) or '')
local same = every ~= nil and previous ~= nil and tonumber(stored[1] or '') == every
local offset = tonumber(ARGV[15]) or 0
if offset == 0 and same then
  offset = tonumber(stored[2] or '') or 0
end

-- The planned run gives way unless it has started.
local function drop_pending()
  if not previous then
    return false
  end
  local id = run_id(schedule, previous)
  if redis.call('EXISTS', base .. id) == 0 then
    return false
  end
  if redis.call('ZREM', base .. 'delayed', id) == 0 and redis.call('ZREM', base .. 'prioritized', id) == 0
    and redis.call('LREM', queue.wait, 1, id) == 0 then
    return false
  end
  delete_job(queue, id)
  return true
end

local function is_taken(due)
  return redis.call('EXISTS', base .. run_id(schedule, due)) == 1
end

local due
if every then
  due = next_interval(every, offset, same and previous or nil, tonumber(ARGV[13]))
else
  due = math.max(now, tonumber(ARGV[16]))
end
if drop_pending() and same then
  due = previous
end
if is_taken(due) then
  local first = due
  for _ = 2, every and 32 or 1 do
    due = due + every
    if not is_taken(due) then
      break
    end
  end
  if is_taken(due) then
    return { run_id(schedule, first) }
  end
end
if every and offset == 0 then
  offset = due % every
end

redis.call('ZADD', base .. 'repeat', whole(due), schedule)
redis.call('DEL', key)
local fields = { 'name', ARGV[6], 'ic', stored[3] or '1', 'offset', whole(offset) }
for at, name in pairs({ [7] = 'data', [8] = 'opts', [9] = 'every', [10] = 'pattern', [11] = 'tz', [12] = 'limit', [13] = 'startDate', [14] = 'endDate' }) do
  if ARGV[at] ~= '' then
    fields[#fields + 1] = name
    fields[#fields + 1] = ARGV[at]
  end
end
redis.call('HSET', key, unpack(fields))
known_as(ARGV[22], ARGV[23])
return plan_run(queue, schedule, due, {
  name = ARGV[6], data = ARGV[21], head = ARGV[17], quoted = ARGV[18], priority = tonumber(ARGV[19]), lifo = ARGV[20] == '1',
  pattern = not every,
})
