-- Cancel one job.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] id, [6] failed reason, [7] cancellation (JSON).
-- Answers cancelled, requested, foreign, finished or missing.
-- include: queue
-- include: parents
-- include: dedup

local queue = queue_of(base)
local id, reason, request = ARGV[5], ARGV[6], ARGV[7]
local key = base .. id

local function fail_now()
  local fields = redis.call('HMGET', key, 'deid', 'parentKey', 'parent')
  dedup_finished(queue, id, fields[1])
  local parent = parent_of({ fields[2], fields[3] })
  if parent then
    child_failed(parent, key, reason)
  end
  redis.call('HSET', key, 'failedReason', reason, 'finishedOn', whole(now), 'toril:cancel', request)
  redis.call('HDEL', key, 'defa')
  redis.call('ZADD', base .. 'failed', whole(now), id)
  event(queue, 'failed', 'jobId', id, 'failedReason', reason, 'prev', 'active')
  return 'cancelled'
end

if redis.call('EXISTS', key) == 0 then
  return 'missing'
end
if redis.call('ZSCORE', base .. 'completed', id) or redis.call('ZSCORE', base .. 'failed', id) then
  return 'finished'
end
local lock = redis.call('GET', key .. ':lock')
if lock or redis.call('LPOS', base .. 'active', id) then
  -- A token of ours begins with the id of the worker that took the job; workers of BullMQ take no requests.
  local worker = redis.call('HGET', key, 'pb')
  if lock and not (worker and string.sub(lock, 1, #worker + 1) == worker .. ':') then
    return 'foreign'
  end
  if not redis.call('HGET', key, 'toril:cancel') then
    redis.call('HSET', key, 'toril:cancel', request)
  end
  redis.call('SADD', own .. 'cancels', id)
  redis.call('PEXPIRE', own .. 'cancels', 86400000)
  -- Whoever waits looks; the worker that runs the job may be another, and looks by itself.
  redis.call('ZADD', base .. 'marker', 0, '0')
  return 'requested'
end
for _, name in ipairs({ 'delayed', 'prioritized', 'waiting-children' }) do
  if redis.call('ZREM', base .. name, id) == 1 then
    return fail_now()
  end
end
-- In the list: taking it out there would cost as much as there is waiting. Whoever gets it next fails it.
if not redis.call('HGET', key, 'toril:cancel') then
  redis.call('HSET', key, 'defa', reason, 'toril:cancel', request)
end
dedup_finished(queue, id, redis.call('HGET', key, 'deid'))
mark(queue)
return 'cancelled'
