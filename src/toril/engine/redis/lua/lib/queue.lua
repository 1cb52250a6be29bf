-- What every script knows of a queue. ARGV[1] base, ARGV[2] Toril's own base, ARGV[3] wire (auto, bullmq5, bullmq6),
-- ARGV[4] now in ms. Places in time are passed to Redis as integers, never in exponent form.

local base, own, wire, now = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

local DEFAULT_EVENTS = '10000'

-- What a job remembers of its runs: the newest of them.
local MOST_RUNS = 100
-- What an event may carry: longer results are read from the job.
local MOST_IN_EVENT = 16384

local function whole(number)
  return string.format('%.0f', number)
end

-- The field for the record of a run, by how often the job was started; the oldest record goes.
local function history_field(key, starts)
  local number = tonumber(starts or '') or 0
  if number > MOST_RUNS then
    redis.call('HDEL', key, 'toril:h' .. whole(number - MOST_RUNS))
  end
  return 'toril:h' .. whole(number)
end

-- The settings of the queue whose keys begin with `at`, read once per script.
local known = {}
local function queue_of(at)
  local queue = known[at]
  if queue then
    return queue
  end
  local meta = redis.call('HMGET', at .. 'meta', 'paused', 'concurrency', 'max', 'duration', 'version', 'opts.maxLenEvents',
    'toril:told')
  queue = {
    base = at,
    paused = meta[1] and true or false,
    concurrency = tonumber(meta[2] or ''),
    max = tonumber(meta[3] or ''),
    duration = tonumber(meta[4] or ''),
    maxlen = meta[6],
    told = meta[7],
    wait = at .. 'wait',
    events = at .. 'events',
    is_v5 = wire == 'bullmq5' or (wire ~= 'bullmq6' and string.sub(meta[5] or '', 1, 9) == 'bullmq:5.'),
  }
  if not queue.maxlen then
    queue.maxlen = DEFAULT_EVENTS
    queue.unsized = true
  end
  if queue.paused and wire ~= 'bullmq6' then
    if queue.is_v5 or redis.call('EXISTS', at .. 'paused') == 1 then
      queue.wait = at .. 'paused'
    end
  end
  known[at] = queue
  return queue
end

local function sized(queue)
  if queue.unsized then
    redis.call('HSET', queue.base .. 'meta', 'opts.maxLenEvents', queue.maxlen)
    queue.unsized = nil
  end
end

-- The set of known queues is '' where it lies in another slot, and the caller writes it.
local function known_as(set, name)
  if set ~= '' then
    redis.call('SADD', set, name)
  end
end

local function not_known_as(set, name)
  if set ~= '' then
    redis.call('SREM', set, name)
  end
end

local ALWAYS_TOLD = { completed = true, failed = true, progress = true, log = true }

local function event(queue, kind, ...)
  -- A queue may be told to say less than all: `finished` or `off`.
  if queue.told and (queue.told == 'off' or not ALWAYS_TOLD[kind]) then
    return
  end
  redis.call('XADD', queue.events, 'MAXLEN', '~', queue.maxlen, '*', 'event', kind, ...)
end

local function held_back(queue)
  if queue.paused then
    return true
  end
  return queue.concurrency ~= nil and redis.call('LLEN', queue.base .. 'active') >= queue.concurrency
end

-- "There may be work."
local function mark(queue)
  if not held_back(queue) then
    redis.call('ZADD', queue.base .. 'marker', 0, '0')
  end
end

-- "There is work at this time": of the earliest delayed job.
local function mark_delayed(queue)
  local first = redis.call('ZRANGE', queue.base .. 'delayed', 0, 0, 'WITHSCORES')
  if first[2] then
    redis.call('ZADD', queue.base .. 'marker', string.format('%.17g', tonumber(first[2]) / 4096), '1')
  end
end

local function prioritized_score(queue, priority)
  local counter = redis.call('INCR', queue.base .. 'pc')
  return whole(priority * 4294967296 + counter % 4294967296)
end

-- Put a job where it may run next time: at the back, or with `ahead` at the front of those without priority.
local function put_in_line(queue, id, priority, ahead)
  if priority > 0 then
    redis.call('ZADD', queue.base .. 'prioritized', prioritized_score(queue, priority), id)
  elseif ahead then
    redis.call('RPUSH', queue.wait, id)
  else
    redis.call('LPUSH', queue.wait, id)
  end
end

-- Up to 4,096 jobs of one millisecond keep their order.
local function put_in_delayed(queue, id, due)
  local lowest = due * 4096
  local last = redis.call('ZREVRANGEBYSCORE', queue.base .. 'delayed', whole(lowest + 4095), whole(lowest), 'WITHSCORES', 'LIMIT', 0, 1)
  local score = lowest
  if last[2] then
    score = math.min(tonumber(last[2]) + 1, lowest + 4095)
  end
  redis.call('ZADD', queue.base .. 'delayed', whole(score), id)
  event(queue, 'delayed', 'jobId', id, 'delay', whole(due))
end

-- Due jobs come into line in the order of their times, 1,000 at most. Answers how many.
local function promote_due(queue)
  local delayed = queue.base .. 'delayed'
  local due = redis.call('ZRANGEBYSCORE', delayed, 0, '(' .. whole((now + 1) * 4096), 'LIMIT', 0, 1000)
  for _, id in ipairs(due) do
    redis.call('ZREM', delayed, id)
    local priority = tonumber(redis.call('HGET', queue.base .. id, 'priority') or '') or 0
    put_in_line(queue, id, priority, false)
    redis.call('HSET', queue.base .. id, 'delay', 0)
    event(queue, 'waiting', 'jobId', id, 'prev', 'delayed')
  end
  if #due > 0 then
    mark(queue)
  end
  return #due
end
