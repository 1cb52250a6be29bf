-- What the end of a child means for its parent, which may be in another queue of the same slot.
-- include: queue

local function parent_of(fields)
  -- fields: parentKey, parent (JSON)
  if not fields[1] or not fields[2] then
    return nil
  end
  local fine, parent = pcall(cjson.decode, fields[2])
  if not fine or type(parent) ~= 'table' or not parent.queueKey or not parent.id then
    return nil
  end
  parent.key = fields[1]
  parent.base = parent.queueKey .. ':'
  return parent
end

-- The last pending child is done: the parent runs, now or after its own delay.
local function release(parent)
  local queue = queue_of(parent.base)
  if redis.call('ZREM', parent.base .. 'waiting-children', parent.id) == 0 then
    return
  end
  local fields = redis.call('HMGET', parent.key, 'delay', 'priority')
  local delay = tonumber(fields[1] or '') or 0
  if delay > 0 then
    local due = now + delay
    redis.call('ZADD', parent.base .. 'delayed', whole(due * 4096), parent.id)
    event(queue, 'delayed', 'jobId', parent.id, 'delay', whole(due))
    mark_delayed(queue)
  else
    put_in_line(queue, parent.id, tonumber(fields[2] or '') or 0, true)
    mark(queue)
    event(queue, 'waiting', 'jobId', parent.id, 'prev', 'waiting-children')
  end
end

local function release_if_free(parent)
  if redis.call('SCARD', parent.key .. ':dependencies') == 0 then
    release(parent)
  end
end

local function child_completed(parent, child_key, returnvalue)
  if redis.call('SREM', parent.key .. ':dependencies', child_key) == 1 then
    redis.call('HSET', parent.key .. ':processed', child_key, returnvalue)
    release_if_free(parent)
  end
end

-- The parent leaves its children behind and runs at once, if it still waits for them.
local function hurry(parent)
  local queue = queue_of(parent.base)
  local from = 'waiting-children'
  local left = redis.call('ZREM', parent.base .. from, parent.id)
  if left == 0 then
    from = 'delayed'
    left = redis.call('ZREM', parent.base .. from, parent.id)
    if left == 1 then
      redis.call('HSET', parent.key, 'delay', 0)
    end
  end
  if left == 1 then
    local priority = tonumber(redis.call('HGET', parent.key, 'priority') or '') or 0
    put_in_line(queue, parent.id, priority, true)
    mark(queue)
    event(queue, 'waiting', 'jobId', parent.id, 'prev', from)
  end
  return left == 1
end

local function child_failed(parent, child_key, reason)
  if not (parent.fpof or parent.cpof or parent.idof or parent.rdof) then
    return
  end
  if redis.call('SREM', parent.key .. ':dependencies', child_key) == 0 then
    return
  end
  if parent.fpof then
    redis.call('ZADD', parent.key .. ':unsuccessful', whole(now), child_key)
    if not redis.call('ZSCORE', parent.base .. 'failed', parent.id) then
      redis.call('HSET', parent.key, 'defa', 'child ' .. child_key .. ' failed')
      hurry(parent)
    end
  elseif parent.cpof then
    redis.call('HSET', parent.key .. ':failed', child_key, reason)
    hurry(parent)
  else
    if parent.idof then
      redis.call('HSET', parent.key .. ':failed', child_key, reason)
    end
    release_if_free(parent)
  end
end

-- A finished child runs once more: its parent, if it is still there, waits for it again.
local function child_again(parent, child_key)
  local known = redis.call('ZREM', parent.key .. ':unsuccessful', child_key)
    + redis.call('HDEL', parent.key .. ':failed', child_key)
    + redis.call('HDEL', parent.key .. ':processed', child_key)
  if known > 0 and redis.call('EXISTS', parent.key) == 1 then
    redis.call('SADD', parent.key .. ':dependencies', child_key)
  end
end

-- Why a parent's children forbid what became of its run, or nothing. A run that waits for children that have ended meanwhile is given
-- back instead.
local function forbidden_by_children(run, key, any)
  if run.cause ~= 'done' and run.cause ~= 'parked' then
    return nil
  end
  if any and redis.call('SCARD', key .. ':dependencies') > 0 then
    return run.cause == 'done' and 'PENDING_CHILDREN' or nil
  end
  if any and redis.call('ZCARD', key .. ':unsuccessful') > 0 then
    return 'FAILED_CHILDREN'
  end
  if run.cause == 'parked' then
    run.cause = 'released'
  end
  return nil
end
