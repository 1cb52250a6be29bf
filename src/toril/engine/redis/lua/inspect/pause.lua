-- Pause a queue.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] set of known queues, [6] name of the queue.
-- Answers 1, or 0 when it was paused already.
-- BullMQ 5 keeps the line of a paused queue in `paused`; what is in both is joined, and nothing is overwritten.
-- include: queue

known_as(ARGV[5], ARGV[6])
if redis.call('HEXISTS', base .. 'meta', 'paused') == 1 then
  return 0
end
redis.call('HSET', base .. 'meta', 'paused', '1')
local queue = queue_of(base)
sized(queue)
if queue.wait == base .. 'paused' then
  if redis.call('EXISTS', base .. 'paused') == 0 then
    if redis.call('EXISTS', base .. 'wait') == 1 then
      redis.call('RENAME', base .. 'wait', base .. 'paused')
    end
  else
    while redis.call('RPOPLPUSH', base .. 'wait', base .. 'paused') do
    end
  end
end
redis.call('DEL', base .. 'marker')
event(queue, 'paused')
return 1
