-- Finding jobs: where one is, and its hash.
-- include: queue

local SETS = { 'completed', 'failed', 'delayed', 'prioritized', 'waiting-children' }

-- The set that holds a job, and its score there; or `active`; or nothing, when it can only be in line: to look for it
-- there would cost as much as there is waiting.
local function place_of(id)
  for _, name in ipairs(SETS) do
    local score = redis.call('ZSCORE', base .. name, id)
    if score then
      return name, score
    end
  end
  if redis.call('LPOS', base .. 'active', id) then
    return 'active'
  end
  return nil
end

-- The hash of a job as a flat list. Keys of other kinds, and an empty hash, are no job.
local function hash_of(id)
  local flat = redis.pcall('HGETALL', base .. id)
  if flat.err or #flat == 0 then
    return nil
  end
  return flat
end

-- A run that a scheduler has planned: without it the schedule stops for good.
local function is_planned(queue, id, rjk)
  if not rjk then
    return false
  end
  local score = redis.call('ZSCORE', queue.base .. 'repeat', rjk)
  return score and id == 'repeat:' .. rjk .. ':' .. whole(tonumber(score)) or false
end
