-- Delete jobs that no worker is running, with their children.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5..] ids.
-- Answers per id: ok, missing, locked (it or a child that it waits for) or refused (a scheduler's next run).
-- include: takeout

local queue = queue_of(base)
local answers = {}
for at = 5, #ARGV do
  local id = ARGV[at]
  local rjk = redis.call('HGET', base .. id, 'rjk')
  if redis.call('EXISTS', base .. id) == 0 then
    answers[#answers + 1] = 'missing'
  elseif is_planned(queue, id, rjk) then
    answers[#answers + 1] = 'refused'
  elseif is_locked(queue, id) then
    answers[#answers + 1] = 'locked'
  else
    sized(queue)
    remove_told(queue, id)
    answers[#answers + 1] = 'ok'
  end
end
return answers
