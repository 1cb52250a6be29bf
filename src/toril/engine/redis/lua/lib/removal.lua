-- Deleting jobs, and applying how long finished ones are kept.
-- include: queue
-- include: parents

-- What a job consists of, behind its own key.
local PARTS = { '', ':lock', ':logs', ':dependencies', ':processed', ':failed', ':unsuccessful' }

local function delete_job(queue, id)
  local keys = {}
  for number, part in ipairs(PARTS) do
    keys[number] = queue.base .. id .. part
  end
  return redis.call('DEL', unpack(keys))
end

-- A removed child does not hold up its parent: soft, the parent runs.
local function unlink(queue, id, fields)
  local parent = parent_of(fields)
  if parent and redis.call('SREM', parent.key .. ':dependencies', queue.base .. id) == 1 then
    if redis.call('SCARD', parent.key .. ':dependencies') == 0 then
      local other = queue_of(parent.base)
      if redis.call('ZREM', parent.base .. 'waiting-children', parent.id) == 1 then
        redis.call('RPUSH', other.wait, parent.id)
        mark(other)
        event(other, 'waiting', 'jobId', parent.id, 'prev', 'waiting-children')
      end
    end
  end
end

-- Delete finished jobs, many in few calls; with `only_ours` those of other producers are left alone. Answers how many.
local function expire(queue, finished, ids, only_ours)
  local gone, keys = {}, {}
  local function flush()
    if #gone > 0 then
      redis.call('DEL', unpack(keys))
      redis.call('ZREM', finished, unpack(gone))
      gone, keys = {}, {}
    end
  end
  local deleted = 0
  for _, id in ipairs(ids) do
    local key = queue.base .. id
    local fields = redis.call('HMGET', key, 'parentKey', 'parent', only_ours and 'opts' or 'parent')
    if not only_ours or (fields[3] and string.find(fields[3], '"toril":', 1, true)) then
      if fields[1] then
        unlink(queue, id, fields)
      end
      gone[#gone + 1] = id
      for _, part in ipairs(PARTS) do
        keys[#keys + 1] = key .. part
      end
      deleted = deleted + 1
      if #gone == 100 then
        flush()
      end
    end
  end
  flush()
  return deleted
end

-- keepJobs: bounds by age in seconds and by count, either may be nil.
local function keep(queue, finished, age, count)
  if age then
    expire(queue, finished, redis.call('ZREVRANGEBYSCORE', finished, whole(now - age * 1000), '-inf', 'LIMIT', 0, 1000))
  end
  if count and count > 0 then
    expire(queue, finished, redis.call('ZREVRANGE', finished, count, count + 999))
  end
end
