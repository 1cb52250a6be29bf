-- Pause a queue and delete it with all that belongs to it, a part per call.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] '1' to delete running jobs too, [6] most jobs, [7] set of known queues, [8] name of
-- the queue.
-- Answers {1 when nothing is left, how many running jobs forbid it}.
-- include: takeout

local queue = queue_of(base)
local force, most = ARGV[5] == '1', tonumber(ARGV[6])
local LISTS = { 'active', 'wait', 'paused' }
local deleted = 0

local function delete_jobs()
  for _, name in ipairs(LISTS) do
    while deleted < most do
      local id = redis.call('RPOP', base .. name)
      if not id then
        break
      end
      delete_untold(queue, id)
      deleted = deleted + 1
    end
  end
  for _, name in ipairs(SETS) do
    local popped = most > deleted and redis.call('ZPOPMIN', base .. name, most - deleted) or {}
    for at = 1, #popped, 2 do
      delete_untold(queue, popped[at])
      deleted = deleted + 1
    end
  end
end

local function delete_schedulers()
  local popped = most > deleted and redis.call('ZPOPMIN', base .. 'repeat', most - deleted) or {}
  for at = 1, #popped, 2 do
    redis.call('DEL', base .. 'repeat:' .. popped[at])
    deleted = deleted + 1
  end
end

if redis.call('HLEN', base .. 'meta') == 0 and redis.call('EXISTS', base .. 'id', base .. 'events') == 0 then
  not_known_as(ARGV[7], ARGV[8])
  return { 1, 0 }
end
if not queue.paused then
  redis.call('HSET', base .. 'meta', 'paused', '1')
  redis.call('DEL', base .. 'marker')
  queue.paused = true
  sized(queue)
  event(queue, 'paused')
end
local running = redis.call('LLEN', base .. 'active')
if running > 0 and not force then
  return { 0, running }
end
delete_jobs()
delete_schedulers()
if deleted >= most then
  return { 0, 0 }
end
-- A later log of the same queue must not begin with ids that were given out already: not within the same millisecond.
local last = redis.call('XREVRANGE', base .. 'events', '+', '-', 'COUNT', 1)[1]
local time = redis.call('TIME')
if last and tonumber(string.match(last[1], '^%d+')) >= time[1] * 1000 + math.floor(time[2] / 1000) then
  return { 0, 0 }
end
for _, name in ipairs({ 'events', 'meta', 'id', 'pc', 'marker', 'stalled', 'stalled-check', 'limiter', 'delay', 'priority',
  'metrics:completed', 'metrics:failed', 'metrics:completed:data', 'metrics:failed:data' }) do
  redis.call('DEL', base .. name)
end
redis.call('DEL', own .. 'cancels', own .. 'declared', own .. 'declared-told')
not_known_as(ARGV[7], ARGV[8])
return { 1, 0 }
