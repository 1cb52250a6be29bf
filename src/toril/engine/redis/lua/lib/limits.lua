-- What the limits of a queue let through.
-- include: queue

-- What the counter holds when a handler has stopped the queue; more than any window can have had.
local STOPPED = 9007199254740991
local limiter = base .. 'limiter'

-- Read once: within a script nobody else changes it.
local used = nil
local function used_up()
  used = used or tonumber(redis.call('GET', limiter) or '') or 0
  return used
end

-- How many of the jobs wanted may be taken. BullMQ looks at the counter only under a limit; a stop is obeyed without one, too.
local function room(queue, want)
  if want <= 0 or queue.paused then
    return 0
  end
  local most = want
  if queue.max then
    most = math.min(most, queue.max - used_up())
  elseif used_up() >= STOPPED then
    return 0
  end
  if queue.concurrency and most > 0 then
    most = math.min(most, queue.concurrency - redis.call('LLEN', queue.base .. 'active'))
  end
  return most
end

-- Jobs have started. The window begins with the first of them.
local function count_started(queue, started)
  if queue.max and started > 0 then
    used = redis.call('INCRBY', limiter, started)
    if used == started and queue.duration then
      redis.call('PEXPIRE', limiter, queue.duration)
    end
  end
end

-- Let nothing through for so long. A longer stop that is under way stays.
local function stop(ms)
  if used_up() < STOPPED or redis.call('PTTL', limiter) < ms then
    redis.call('SET', limiter, '9007199254740991', 'PX', whole(ms))
    used = STOPPED
  end
end

-- How long nothing more may start, whatever ends; 0 when it may.
local function limited_ms(queue)
  if used_up() < (queue.max or STOPPED) then
    return 0
  end
  return math.max(redis.call('PTTL', limiter), 0)
end

local function is_in_line(queue)
  return redis.call('LLEN', queue.wait) > 0 or redis.call('ZCARD', queue.base .. 'prioritized') > 0
end
