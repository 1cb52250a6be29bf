-- Taking jobs out of wherever they are, with what hangs on them.
-- include: queue
-- include: parents
-- include: removal
-- include: dedup
-- include: lookup

-- Take a job out of its place. Answers the key that held it, or `unknown`.
local function take_out(queue, id)
  for _, name in ipairs(SETS) do
    if redis.call('ZREM', queue.base .. name, id) == 1 then
      return name
    end
  end
  for _, name in ipairs({ 'active', 'wait', 'paused' }) do
    if redis.call('LREM', queue.base .. name, 1, id) > 0 then
      return name
    end
  end
  return 'unknown'
end

-- Queue base and id of a child out of its key. A queue's name has no colon, but an id may have some.
local function split_key(queue, key)
  local prefix = string.match(queue.base, '^(.*:)[^:]+:$') or ''
  if string.sub(key, 1, #prefix) == prefix then
    local name, id = string.match(string.sub(key, #prefix + 1), '^([^:]+):(.+)$')
    if name then
      return prefix .. name .. ':', id
    end
  end
  return string.match(key, '^(.*:)([^:]+)$')
end

local function is_locked(queue, id)
  if redis.call('EXISTS', queue.base .. id .. ':lock') == 1 then
    return true
  end
  for _, child in ipairs(redis.call('SMEMBERS', queue.base .. id .. ':dependencies')) do
    local at, child_id = split_key(queue, child)
    if at and is_locked(queue_of(at), child_id) then
      return true
    end
  end
  return false
end

local function children_of(queue, id)
  local key = queue.base .. id
  local children = {}
  for _, list in ipairs({
    redis.call('HKEYS', key .. ':processed'), redis.call('HKEYS', key .. ':failed'),
    redis.call('ZRANGE', key .. ':unsuccessful', 0, -1), redis.call('SMEMBERS', key .. ':dependencies'),
  }) do
    for _, child in ipairs(list) do
      children[#children + 1] = child
    end
  end
  return children
end

-- Remove a job with its children, each told. Its parent no longer waits for it.
local function remove_told(queue, id)
  for _, child in ipairs(children_of(queue, id)) do
    local at, child_id = split_key(queue, child)
    if at and redis.call('EXISTS', child) == 1 then
      remove_told(queue_of(at), child_id)
    end
  end
  local fields = redis.call('HMGET', queue.base .. id, 'parentKey', 'parent', 'deid')
  unlink(queue, id, fields)
  local from = take_out(queue, id)
  dedup_removed(queue, id, fields[3])
  delete_job(queue, id)
  event(queue, 'removed', 'jobId', id, 'prev', from)
end

-- Delete a job that was taken out of its place already, untold. A parent of the same queue that waited for it alone goes with it;
-- one of another queue runs.
local function delete_untold(queue, id)
  local key = queue.base .. id
  local fields = redis.call('HMGET', key, 'parentKey', 'parent', 'deid')
  dedup_removed(queue, id, fields[3])
  delete_job(queue, id)
  local parent = parent_of(fields)
  if not parent or redis.call('SREM', parent.key .. ':dependencies', key) == 0
    or redis.call('SCARD', parent.key .. ':dependencies') > 0
    or redis.call('ZREM', parent.base .. 'waiting-children', parent.id) == 0 then
    return
  end
  if parent.base == queue.base then
    delete_untold(queue, parent.id)
  else
    local other = queue_of(parent.base)
    redis.call('RPUSH', other.wait, parent.id)
    mark(other)
  end
end
