-- Deleting jobs, and applying how long finished ones are kept.
-- include: queue
-- include: parents

local function delete_job(queue, id)
  local key = queue.base .. id
  return redis.call(
    'DEL', key, key .. ':lock', key .. ':logs', key .. ':dependencies', key .. ':processed', key .. ':failed', key .. ':unsuccessful'
  )
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

local function expire(queue, finished, ids)
  for _, id in ipairs(ids) do
    unlink(queue, id, redis.call('HMGET', queue.base .. id, 'parentKey', 'parent'))
    delete_job(queue, id)
    redis.call('ZREM', finished, id)
  end
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
