-- Delete jobs of a state by age.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] state (waiting for what is in line), [6] ms: finished, or if unfinished created, up
-- to then, [7] most jobs to delete, [8] most to look at, [9] how many of the oldest to pass over (an earlier call kept them).
-- Answers {how many were deleted, how many to pass over next time, 1 when all were looked at}.
-- include: takeout

local queue = queue_of(base)
local state, before, most, budget, kept = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local deleted, looked = 0, 0

local function clean_finished()
  local ids = redis.call('ZRANGEBYSCORE', base .. state, '-inf', whole(before), 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    redis.call('ZREM', base .. state, id)
    delete_untold(queue, id)
  end
  deleted = #ids
end

local function is_old(id)
  local fields = redis.call('HMGET', base .. id, 'timestamp', 'rjk')
  local created = tonumber(fields[1] or '')
  if not created or created > before or is_planned(queue, id, fields[2]) then
    return false
  end
  return state ~= 'active' or redis.call('EXISTS', base .. id .. ':lock') == 0
end

-- `read(from, n)` gives ids, the front of the line first; `take(id)` takes one out.
local function clean_unfinished(read, take)
  while true do
    local ids = read(kept, math.min(500, budget - looked))
    if #ids == 0 then
      return 1
    end
    for _, id in ipairs(ids) do
      looked = looked + 1
      if is_old(id) then
        take(id)
        delete_untold(queue, id)
        deleted = deleted + 1
        if deleted >= most then
          return 1
        end
      else
        kept = kept + 1
      end
    end
    if looked >= budget then
      return 0
    end
  end
end

local function list_reader(name)
  local function read(from, many)
    local part = redis.call('LRANGE', base .. name, -from - many, -from - 1)
    local ids = {}
    for at = #part, 1, -1 do
      ids[#ids + 1] = part[at]
    end
    return ids
  end
  local function take(id)
    return redis.call('LREM', base .. name, -1, id)
  end
  return read, take
end

-- Where BullMQ 5 has paused a queue the line is in `paused`; what version 6 has added since stands behind it, in `wait`.
local function line_reader()
  local read_paused, take_paused = list_reader('paused')
  local read_wait, take_wait = list_reader('wait')
  local function read(from, many)
    local ahead = redis.call('LLEN', base .. 'paused')
    if from < ahead then
      return read_paused(from, many)
    end
    return read_wait(from - ahead, many)
  end
  local function take(id)
    if take_paused(id) == 0 then
      take_wait(id)
    end
  end
  return read, take
end

local function set_reader(name)
  local function read(from, many)
    return redis.call('ZRANGE', base .. name, from, from + many - 1)
  end
  local function take(id)
    redis.call('ZREM', base .. name, id)
  end
  return read, take
end

local all = 1
if state == 'completed' or state == 'failed' then
  clean_finished()
elseif state == 'active' then
  all = clean_unfinished(list_reader('active'))
elseif state == 'waiting' then
  all = clean_unfinished(line_reader())
else
  all = clean_unfinished(set_reader(state))
end
if all == 1 then
  sized(queue)
  event(queue, 'cleaned', 'count', deleted)
end
return { deleted, kept, all }
