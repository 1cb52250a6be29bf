-- Set the queue-wide limits.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] concurrency, [6] most jobs that start, [7] in how many ms; each '' is no limit; [8] ''
-- or a declaration: nothing is set when the same was declared last; [9] set of known queues, [10] name of the queue.
-- Answers 1 when they were set.
-- include: queue

local queue = queue_of(base)
local declared = own .. 'declared'
if ARGV[8] ~= '' then
  if redis.call('GET', declared) == ARGV[8] then
    return 0
  end
  redis.call('SET', declared, ARGV[8])
end
sized(queue)
known_as(ARGV[9], ARGV[10])
for number, field in ipairs({ 'concurrency', 'max', 'duration' }) do
  local value = ARGV[4 + number]
  if value == '' then
    redis.call('HDEL', base .. 'meta', field)
  else
    redis.call('HSET', base .. 'meta', field, value)
  end
end
-- A window that is under way ends with the new one, at the latest.
local window = redis.call('PTTL', base .. 'limiter')
if ARGV[7] ~= '' and window > tonumber(ARGV[7]) and redis.call('GET', base .. 'limiter') ~= '9007199254740991' then
  redis.call('PEXPIRE', base .. 'limiter', ARGV[7])
end
queue.concurrency = tonumber(ARGV[5])
if redis.call('EXISTS', queue.wait, base .. 'prioritized') > 0 then
  mark(queue)
end
return 1
