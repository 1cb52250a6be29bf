-- Put delayed jobs in line now.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5..] ids.
-- Answers per id: ok, missing, locked or refused.
-- include: queue
-- include: lookup

local queue = queue_of(base)
local answers, in_line = {}, false
sized(queue)
for at = 5, #ARGV do
  local id = ARGV[at]
  local key = base .. id
  if redis.call('EXISTS', key) == 0 then
    answers[#answers + 1] = 'missing'
  elseif redis.call('ZREM', base .. 'delayed', id) == 0 then
    answers[#answers + 1] = place_of(id) == 'active' and 'locked' or 'refused'
  else
    put_in_line(queue, id, tonumber(redis.call('HGET', key, 'priority') or '') or 0, false)
    redis.call('HSET', key, 'delay', 0)
    event(queue, 'waiting', 'jobId', id, 'prev', 'delayed')
    answers[#answers + 1] = 'ok'
    in_line = true
  end
end
if in_line then
  mark(queue)
end
return answers
