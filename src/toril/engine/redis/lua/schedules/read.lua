-- Read schedules.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] `page`: [6] and [7] first and last by the time of the next run; `one`: [6] its id;
-- `stuck`: [6] how many to look at.
-- Answers per schedule: {id, time of the planned run, its hash as a flat list}.
-- include: runs

local sets = base .. 'repeat'
local pairs_found
if ARGV[5] == 'page' then
  pairs_found = redis.call('ZRANGE', sets, ARGV[6], ARGV[7], 'WITHSCORES')
elseif ARGV[5] == 'one' then
  local score = redis.call('ZSCORE', sets, ARGV[6])
  pairs_found = score and { ARGV[6], score } or {}
else
  pairs_found = redis.call('ZRANGEBYSCORE', sets, '-inf', whole(now), 'WITHSCORES', 'LIMIT', 0, ARGV[6])
end

-- The planned run has ended or is gone, and there should be another.
local function is_stuck(schedule, due)
  local fields = redis.call('HMGET', base .. 'repeat:' .. schedule, 'ic', 'limit', 'endDate')
  local count, most, last = tonumber(fields[1] or ''), tonumber(fields[2] or ''), tonumber(fields[3] or '')
  if (count and most and count >= most) or (last and last < now) then
    return false
  end
  local run = redis.call('HMGET', base .. run_id(schedule, due), 'name', 'finishedOn')
  return not run[1] or run[2]
end

local found = {}
for at = 1, #pairs_found, 2 do
  local schedule, due = pairs_found[at], tonumber(pairs_found[at + 1])
  if ARGV[5] ~= 'stuck' or is_stuck(schedule, due) then
    local flat = redis.call('HGETALL', base .. 'repeat:' .. schedule)
    if #flat > 0 then
      found[#found + 1] = { schedule, whole(due), flat }
    end
  end
end
return found
