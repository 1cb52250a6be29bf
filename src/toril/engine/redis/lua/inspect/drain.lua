-- Delete jobs that are in line, and on request delayed ones. A scheduler's next run stays.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] '1' with delayed ones, [6] most jobs.
-- Answers how many were deleted.
-- include: takeout

local queue = queue_of(base)
local most = tonumber(ARGV[6])
local deleted = 0

local function spared(id)
  return is_planned(queue, id, redis.call('HGET', base .. id, 'rjk'))
end

local function drain_list(name)
  local kept = {}
  while deleted < most do
    local ids = redis.call('LRANGE', base .. name, -math.min(most - deleted, 1000), -1)
    if #ids == 0 then
      break
    end
    redis.call('LTRIM', base .. name, 0, -#ids - 1)
    for at = #ids, 1, -1 do
      if spared(ids[at]) then
        kept[#kept + 1] = ids[at]
      else
        delete_untold(queue, ids[at])
        deleted = deleted + 1
      end
    end
  end
  for at = #kept, 1, -1 do
    redis.call('RPUSH', base .. name, kept[at])
  end
end

local function drain_set(name)
  local kept = 0
  while deleted < most do
    local ids = redis.call('ZRANGE', base .. name, kept, kept + math.min(most - deleted, 1000) - 1)
    if #ids == 0 then
      break
    end
    for _, id in ipairs(ids) do
      if spared(id) then
        kept = kept + 1
      else
        redis.call('ZREM', base .. name, id)
        delete_untold(queue, id)
        deleted = deleted + 1
      end
    end
  end
end

drain_list('wait')
drain_list('paused')
drain_set('prioritized')
if ARGV[5] == '1' then
  drain_set('delayed')
end
return deleted
