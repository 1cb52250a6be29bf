-- Hand in ended runs and take the next jobs, in one step.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] worker, [6] number of the exchange, [7] token, [8] lock in ms, [9] how many jobs
-- are wanted, [10] how long the answer is remembered (ms), [11] how many runs are handed in, [12..] per run: id, token, cause,
-- text (result as JSON, or reason), stack, delay in ms, ended, cancel (JSON or ''), history (JSON), age to keep in seconds or '',
-- count to keep or ''. Causes: done retry failed snooze cancelled released parked limited.
-- Answers {codes, ids taken, fields of each taken job, next due time or false, cancellations, how long (ms) nothing more may start,
-- 1 when jobs wait for others to end}.
-- include: queue
-- include: parents
-- include: removal
-- include: dedup
-- include: traces
-- include: limits

local queue = queue_of(base)
local worker, token, lock_ms, want, total = ARGV[5], ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[11])
local memory = own .. 'x:' .. worker .. ':' .. ARGV[6]
local active, completed, failed = base .. 'active', base .. 'completed', base .. 'failed'
local FIELDS = 11

local function run_of(number)
  local at = 12 + (number - 1) * FIELDS
  return {
    id = ARGV[at], token = ARGV[at + 1], cause = ARGV[at + 2], text = ARGV[at + 3], stack = ARGV[at + 4],
    delay = tonumber(ARGV[at + 5]), ended = ARGV[at + 6], cancel = ARGV[at + 7], history = ARGV[at + 8],
    age = tonumber(ARGV[at + 9]), count = tonumber(ARGV[at + 10]),
  }
end

-- Children that are pending or have failed forbid a parent's completion. Most jobs have none: one look tells for all.
local any_children = false

local function check(run, lock, fields)
  if not fields[1] and redis.call('EXISTS', base .. run.id) == 0 then
    return 'MISSING'
  end
  local refused = forbidden_by_children(run, base .. run.id, any_children)
  if refused then
    return refused
  end
  if lock ~= run.token then
    return 'LOCK_LOST'
  end
  -- Not a check alone: removing it from the active list is what proves that it was there.
  if redis.call('LREM', active, -1, run.id) == 0 then
    return 'NOT_ACTIVE'
  end
  return 'OK'
end

local ended_well, ended_badly, ahead = {}, {}, {}
local in_line = false
-- How long the queue is to stop, because handlers said so.
local stop_ms = 0
-- Only a job that ended for good can leave the queue drained.
local any_ended = false

local function finish_well(run, key, fields)
  dedup_finished(queue, run.id, fields[4])
  local parent = parent_of({ fields[5], fields[6] })
  if parent then
    child_completed(parent, key, run.text)
  end
  redis.call('HSET', key, 'atm', (tonumber(fields[2] or '') or 0) + 1, 'returnvalue', run.text, 'finishedOn', run.ended,
    run.history_field, run.history)
  if fields[11] then
    redis.call('HDEL', key, 'defa')
  end
  ended_well[#ended_well + 1] = run.ended
  ended_well[#ended_well + 1] = run.id
  local told = #run.text > MOST_IN_EVENT and 'null' or run.text
  event(queue, 'completed', 'jobId', run.id, 'returnvalue', told, 'prev', 'active')
end

local function finish_badly(run, key, fields)
  dedup_finished(queue, run.id, fields[4])
  local parent = parent_of({ fields[5], fields[6] })
  if parent then
    child_failed(parent, key, run.text)
  end
  local attempts = tonumber(fields[2] or '') or 0
  if run.cause == 'failed' then
    attempts = attempts + 1
  end
  redis.call('HSET', key, 'atm', attempts, 'failedReason', run.text, 'finishedOn', run.ended, run.history_field, run.history)
  if run.stack ~= '' then
    redis.call('HSET', key, 'stacktrace', stack_with(fields[7], run.stack, fields[9]))
  end
  if run.cause == 'cancelled' and not fields[8] then
    redis.call('HSET', key, 'toril:cancel', run.cancel)
  end
  redis.call('HDEL', key, 'defa')
  ended_badly[#ended_badly + 1] = run.ended
  ended_badly[#ended_badly + 1] = run.id
  event(queue, 'failed', 'jobId', run.id, 'failedReason', run.text, 'prev', 'active')
  if run.cause == 'failed' then
    local fine, opts = pcall(cjson.decode, fields[9] or '{}')
    local most = fine and type(opts) == 'table' and tonumber(opts.attempts or 0) or 0
    if attempts >= most then
      event(queue, 'retries-exhausted', 'jobId', run.id, 'attemptsMade', attempts)
    end
  end
end

local function put_back(run, key, fields)
  local priority = tonumber(fields[3] or '') or 0
  redis.call('HSET', key, run.history_field, run.history)
  if run.cause == 'retry' then
    redis.call('HSET', key, 'atm', (tonumber(fields[2] or '') or 0) + 1, 'failedReason', run.text)
    if run.stack ~= '' then
      redis.call('HSET', key, 'stacktrace', stack_with(fields[7], run.stack, fields[9]))
    end
  end
  redis.call('HDEL', key, 'defa')
  if run.cause == 'parked' then
    redis.call('ZADD', base .. 'waiting-children', whole(now), run.id)
    event(queue, 'waiting-children', 'jobId', run.id, 'prev', 'active')
    return
  end
  if run.cause == 'limited' then
    stop_ms = math.max(stop_ms, run.delay)
    ahead[#ahead + 1] = { run.id, priority }
    event(queue, 'waiting', 'jobId', run.id, 'prev', 'active')
    return
  end
  if run.delay > 0 then
    redis.call('HSET', key, 'delay', run.delay)
    put_in_delayed(queue, run.id, now + run.delay)
    mark_delayed(queue)
    return
  end
  if run.cause == 'released' then
    ahead[#ahead + 1] = { run.id, 0 }
  else
    put_in_line(queue, run.id, priority, run.cause == 'retry' and option(fields[9], 'lifo') == true)
  end
  event(queue, 'waiting', 'jobId', run.id, 'prev', 'active')
  in_line = true
end

-- A cancellation was requested: whatever its worker made of it, the job does not go back in line.
local function with_pending_cancel(run, fields)
  if fields[8] and (run.cause == 'retry' or run.cause == 'snooze' or run.cause == 'released' or run.cause == 'parked'
    or run.cause == 'limited') then
    stop_ms = math.max(stop_ms, run.cause == 'limited' and run.delay or 0)
    local fine, request = pcall(cjson.decode, fields[8])
    run.cause = 'cancelled'
    run.text = (fine and request.reason and request.reason ~= '') and ('cancelled: ' .. request.reason) or 'cancelled'
    run.stack = ''
  end
end

-- Most runs end well, and need little of what is stored.
local function fields_to_end(run, key)
  if run.cause == 'done' then
    local few = redis.call('HMGET', key, 'ats', 'atm', 'deid', 'parentKey', 'defa')
    local parent = few[4] and redis.call('HGET', key, 'parent')
    return { few[1], few[2], false, few[3], few[4], parent, false, false, false, few[1], few[5] }
  end
  return redis.call('HMGET', key, 'name', 'atm', 'priority', 'deid', 'parentKey', 'parent', 'stacktrace', 'toril:cancel', 'opts', 'ats')
end

-- Locks of runs that were accepted, to be deleted in one call.
local spent = {}

local function apply(run, lock)
  local key = base .. run.id
  local fields = fields_to_end(run, key)
  local code = check(run, lock, fields)
  if code ~= 'OK' then
    return code
  end
  spent[#spent + 1] = key .. ':lock'
  run.history_field = history_field(key, fields[10])
  with_pending_cancel(run, fields)
  if run.cause == 'done' then
    finish_well(run, key, fields)
  elseif run.cause == 'failed' or run.cause == 'cancelled' then
    finish_badly(run, key, fields)
  else
    put_back(run, key, fields)
    return code
  end
  any_ended = true
  if run.count == 0 then
    if fields[5] then
      unlink(queue, run.id, { fields[5], fields[6] })
    end
    delete_job(queue, run.id)
    local list = run.cause == 'done' and ended_well or ended_badly
    list[#list] = nil
    list[#list] = nil
  elseif run.count or run.age then
    if run.cause == 'done' then
      queue.keep_completed = run
    else
      queue.keep_failed = run
    end
  end
  return code
end

local function store_finished(finished, list, bounds)
  for first = 1, #list, 1000 do
    redis.call('ZADD', finished, unpack(list, first, math.min(first + 999, #list)))
  end
  if bounds then
    keep(queue, finished, bounds.age, bounds.count)
  end
end

local function hand_in()
  if total == 0 then
    return ''
  end
  sized(queue)
  local runs, locks, children, codes, ours = {}, {}, {}, {}, {}
  for number = 1, total do
    local run = run_of(number)
    local key = base .. run.id
    runs[number] = run
    locks[number] = key .. ':lock'
    children[2 * number - 1] = key .. ':dependencies'
    children[2 * number] = key .. ':unsuccessful'
  end
  locks = redis.call('MGET', unpack(locks))
  any_children = redis.call('EXISTS', unpack(children)) > 0
  local seen = {}
  for number, run in ipairs(runs) do
    -- The lock is used up by the first of several outcomes of one run.
    codes[number] = apply(run, not seen[run.id] and locks[number])
    if codes[number] == 'OK' then
      seen[run.id] = true
      ours[#ours + 1] = run.id
    end
  end
  if #spent > 0 then
    redis.call('DEL', unpack(spent))
  end
  if #ours > 0 then
    redis.call('SREM', base .. 'stalled', unpack(ours))
  end
  -- The last one pushed stands foremost: they come to stand as they were handed in.
  for number = #ahead, 1, -1 do
    local id, priority = ahead[number][1], ahead[number][2]
    if priority > 0 then
      redis.call('ZADD', base .. 'prioritized', whole(priority * 4294967296), id)
    else
      redis.call('RPUSH', queue.wait, id)
      in_line = true
    end
  end
  if stop_ms > 0 then
    stop(stop_ms)
  end
  store_finished(completed, ended_well, queue.keep_completed)
  store_finished(failed, ended_badly, queue.keep_failed)
  return table.concat(codes, ',')
end

local function next_ids(most)
  local ids = {}
  if most <= 0 then
    return ids
  end
  local list = redis.call('LRANGE', queue.wait, -most, -1)
  if #list > 0 then
    redis.call('LTRIM', queue.wait, 0, -#list - 1)
    for number = #list, 1, -1 do
      -- Markers of old versions stood in the list itself: they are no jobs.
      if string.sub(list[number], 1, 2) ~= '0:' then
        ids[#ids + 1] = list[number]
      end
    end
  end
  local rest = most - #ids
  if rest > 0 then
    local popped = redis.call('ZPOPMIN', base .. 'prioritized', rest)
    for number = 1, #popped, 2 do
      ids[#ids + 1] = popped[number]
    end
    if #popped < 2 * rest then
      -- Found empty, as by the next of several single fetches.
      redis.call('DEL', base .. 'pc')
    end
  end
  if #ids > 0 then
    redis.call('LPUSH', active, unpack(ids))
  end
  return ids
end

local function fields_of(key, from)
  return redis.call('HMGET', key, 'name', 'data', 'opts', 'timestamp', 'atm', 'ats', 'stc', 'defa', from)
end

local function take()
  local ids = next_ids(room(queue, want))
  local jobs = {}
  local counted = 0
  for number, id in ipairs(ids) do
    local key = base .. id
    redis.call('SET', key .. ':lock', token, 'PX', lock_ms)
    local fields = fields_of(key, 'rjk')
    fields[6] = (tonumber(fields[6] or '') or 0) + 1
    redis.call('HSET', key, 'processedOn', whole(now), 'ats', fields[6], 'pb', worker)
    event(queue, 'active', 'jobId', id, 'prev', 'waiting')
    jobs[number] = fields
    if not fields[8] then
      counted = counted + 1
    end
  end
  if #ids > 0 then
    count_started(queue, counted)
    mark(queue)
  end
  return ids, jobs
end

-- Jobs of this worker whose cancellation somebody asked for; the set is small and lives outside the layout.
local function cancellations()
  local asked = {}
  for _, id in ipairs(redis.call('SMEMBERS', own .. 'cancels')) do
    local held = redis.call('GET', base .. id .. ':lock')
    local request = redis.call('HGET', base .. id, 'toril:cancel')
    if not request or not held then
      redis.call('SREM', own .. 'cancels', id)
    elseif string.sub(held, 1, #worker + 1) == worker .. ':' then
      asked[#asked + 1] = { id, held, request }
    end
  end
  return asked
end

-- Who asked for the next job and learned that there is nothing now, but later, has not drained the queue.
local function tell_drained(ids, due)
  if #ids > 0 or (want > 0 and (queue.paused or due)) then
    return
  end
  if redis.call('LLEN', queue.wait) == 0 and redis.call('LLEN', active) == 0 and redis.call('ZCARD', base .. 'prioritized') == 0 then
    event(queue, 'drained')
  end
end

-- Whether a job that was taken with this exchange's token is still this worker's: also when its lock has run out, as long as nobody
-- has put it back in line. The lock is then given anew.
local function is_still_held(id)
  local key = base .. id
  local held = redis.call('GET', key .. ':lock')
  if held then
    return held == token
  end
  if redis.call('HGET', key, 'pb') ~= worker or not redis.call('LPOS', active, id) then
    return false
  end
  redis.call('SET', key .. ':lock', token, 'PX', lock_ms)
  return true
end

local codes, ids, jobs
local earlier = redis.call('GET', memory)
if earlier then
  local split = string.find(earlier, '|', 1, true)
  codes = string.sub(earlier, 1, split - 1)
  ids, jobs = {}, {}
  for id in string.gmatch(string.sub(earlier, split + 1), '[^,]+') do
    if is_still_held(id) then
      ids[#ids + 1] = id
      jobs[#jobs + 1] = fields_of(base .. id, 'rjk')
    end
  end
else
  codes = hand_in()
  promote_due(queue)
  ids, jobs = take()
  if codes ~= '' or #ids > 0 then
    redis.call('SET', memory, codes .. '|' .. table.concat(ids, ','), 'PX', ARGV[10])
  end
  -- A run that ended makes room under a queue-wide limit, which idle workers would find out only by looking.
  if in_line or (queue.concurrency and codes ~= '' and is_in_line(queue)) then
    mark(queue)
  end
end
local first = redis.call('ZRANGE', base .. 'delayed', 0, 0, 'WITHSCORES')
local due = first[2] and string.format('%.0f', math.floor(tonumber(first[2]) / 4096)) or false
if any_ended then
  tell_drained(ids, due)
end
local full = queue.concurrency and redis.call('LLEN', active) >= queue.concurrency and is_in_line(queue)
return { codes, ids, jobs, due, cancellations(), limited_ms(queue), full and 1 or 0 }
