-- Prolong locks of one queue.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] lock in ms, [6..] per lock: id, token.
-- Answers {indexes (from 0) of the lost ones, {index, cancellation (JSON)} of those whose cancellation was asked for}.
-- include: queue

local lost, asked, alive = {}, {}, {}
for at = 6, #ARGV, 2 do
  local id, token = ARGV[at], ARGV[at + 1]
  local key = base .. id
  local index = (at - 6) / 2
  if redis.call('GET', key .. ':lock') == token and redis.call('EXISTS', key) == 1 then
    redis.call('SET', key .. ':lock', token, 'PX', ARGV[5])
    alive[#alive + 1] = id
    local request = redis.call('HGET', key, 'toril:cancel')
    if request then
      asked[#asked + 1] = { index, request }
    end
  else
    lost[#lost + 1] = index
  end
end
if #alive > 0 then
  redis.call('SREM', base .. 'stalled', unpack(alive))
end
return { lost, asked }
