-- Set which events of the queue are written.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] all, finished or off; [6] '1' for a declaration: nothing is set when the same was
-- declared last; [7] set of known queues, [8] name of the queue.
-- Answers 1 when it was set.
-- include: queue

local queue = queue_of(base)
local declared = own .. 'declared-told'
if ARGV[6] == '1' then
  if redis.call('GET', declared) == ARGV[5] then
    return 0
  end
  redis.call('SET', declared, ARGV[5])
end
sized(queue)
known_as(ARGV[7], ARGV[8])
if ARGV[5] == 'all' then
  redis.call('HDEL', base .. 'meta', 'toril:told')
else
  redis.call('HSET', base .. 'meta', 'toril:told', ARGV[5])
end
return 1
