-- Put finished jobs back in line, as if they had never run.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5..] ids.
-- Answers per id: ok, missing, locked or refused.
-- include: queue
-- include: parents
-- include: lookup

local queue = queue_of(base)
local answers, in_line = {}, false
sized(queue)
for at = 5, #ARGV do
  local id = ARGV[at]
  local key = base .. id
  local from = nil
  for _, name in ipairs({ 'failed', 'completed' }) do
    if redis.call('ZREM', base .. name, id) == 1 then
      from = name
    end
  end
  if redis.call('EXISTS', key) == 0 then
    answers[#answers + 1] = 'missing'
  elseif not from then
    answers[#answers + 1] = place_of(id) == 'active' and 'locked' or 'refused'
  else
    local fields = redis.call('HMGET', key, 'parentKey', 'parent', 'priority')
    redis.call('HDEL', key, 'atm', 'attemptsMade', 'stc', 'finishedOn', 'processedOn', 'failedReason', 'returnvalue', 'progress',
      'defa', 'toril:cancel')
    local parent = parent_of(fields)
    if parent then
      child_again(parent, key)
    end
    put_in_line(queue, id, tonumber(fields[3] or '') or 0, false)
    event(queue, 'waiting', 'jobId', id, 'prev', from)
    answers[#answers + 1] = 'ok'
    in_line = true
  end
end
if in_line then
  mark(queue)
end
return answers
