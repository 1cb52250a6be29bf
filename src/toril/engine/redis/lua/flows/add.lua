-- Add whole trees of jobs in one step.
-- KEYS[1] meta of the first job's queue. ARGV[1..4] see lib/queue; [5] batch id, [6] how long it is remembered (ms), [7] set of known
-- queues, [8] how many queues, then their names, then per job: base of its queue, id, name, data, opts, timestamp, delay, priority,
-- lifo, '1' with children, key of its parent or '', the field `parent` (JSON) or '', '1' when the parent is not of this flow.
-- Answers '1' or '0' per job: created or there before; or {'missing', index} when the parent of a job is not there, or {'taken', index,
-- key of the parent} when a job has another one. Then nothing was changed.
-- include: queue
-- include: parents

local FIELDS = 13
local memory = own .. 'batch:' .. ARGV[5]
local earlier = redis.call('GET', memory)
if earlier then
  return earlier
end

local nodes = {}
for at = 9 + tonumber(ARGV[8]), #ARGV, FIELDS do
  nodes[#nodes + 1] = {
    base = ARGV[at], id = ARGV[at + 1], name = ARGV[at + 2], data = ARGV[at + 3], opts = ARGV[at + 4], timestamp = ARGV[at + 5],
    delay = ARGV[at + 6], priority = ARGV[at + 7], lifo = ARGV[at + 8] == '1', has_children = ARGV[at + 9] == '1',
    parent_key = ARGV[at + 10], parent = ARGV[at + 11], is_outside = ARGV[at + 12] == '1', key = ARGV[at] .. ARGV[at + 1],
  }
end

-- A child may have been forgotten: its failure was to be that of none.
local function is_child_of(parent, key)
  return redis.call('SISMEMBER', parent .. ':dependencies', key) == 1 or redis.call('HEXISTS', parent .. ':processed', key) == 1
    or redis.call('HEXISTS', parent .. ':failed', key) == 1 or redis.call('ZSCORE', parent .. ':unsuccessful', key)
end

-- Scripts have no rollback: all is checked before the first write.
for number, node in ipairs(nodes) do
  if node.parent_key ~= '' then
    if node.is_outside and redis.call('EXISTS', node.parent_key) == 0 then
      return { 'missing', number - 1 }
    end
    local other = redis.call('HGET', node.key, 'parentKey')
    if other and other ~= node.parent_key and is_child_of(other, node.key) then
      return { 'taken', number - 1, other }
    end
  end
end

local function place(queue, node)
  local delay, priority = tonumber(node.delay), tonumber(node.priority)
  if node.has_children then
    redis.call('ZADD', node.base .. 'waiting-children', node.timestamp, node.id)
    event(queue, 'waiting-children', 'jobId', node.id)
  elseif delay > 0 then
    put_in_delayed(queue, node.id, now + delay)
    mark_delayed(queue)
  else
    put_in_line(queue, node.id, priority, node.lifo)
    event(queue, 'waiting', 'jobId', node.id)
    mark(queue)
  end
end

-- A job that was there before becomes a child with what has become of it.
local function adopt(node)
  redis.call('HSET', node.key, 'parentKey', node.parent_key, 'parent', node.parent)
  if redis.call('ZSCORE', node.base .. 'completed', node.id) then
    redis.call('HSET', node.parent_key .. ':processed', node.key, redis.call('HGET', node.key, 'returnvalue') or 'null')
  else
    redis.call('SADD', node.parent_key .. ':dependencies', node.key)
  end
end

local created, before = {}, {}
for number, node in ipairs(nodes) do
  local queue = queue_of(node.base)
  sized(queue)
  redis.call('INCR', node.base .. 'id')
  if redis.call('HSETNX', node.key, 'name', node.name) == 0 then
    created[number] = '0'
    before[#before + 1] = node
    if node.parent_key ~= '' then
      adopt(node)
    end
    event(queue, 'duplicated', 'jobId', node.id)
  else
    created[number] = '1'
    redis.call('HSET', node.key, 'data', node.data, 'opts', node.opts, 'timestamp', node.timestamp, 'delay', node.delay, 'priority', node.priority)
    if node.parent_key ~= '' then
      redis.call('HSET', node.key, 'parentKey', node.parent_key, 'parent', node.parent)
      redis.call('SADD', node.parent_key .. ':dependencies', node.key)
    end
    event(queue, 'added', 'jobId', node.id, 'name', node.name)
    place(queue, node)
  end
end

-- From the leaves upwards, so that the whole tree has settled.
for number = #before, 1, -1 do
  local node = before[number]
  local parent = node.parent_key ~= '' and parent_of({ node.parent_key, node.parent })
  if parent then
    if redis.call('ZSCORE', node.base .. 'failed', node.id) then
      child_failed(parent, node.key, redis.call('HGET', node.key, 'failedReason') or '')
    elseif redis.call('ZSCORE', node.base .. 'completed', node.id) then
      release_if_free(parent)
    end
  end
end

for at = 9, 8 + tonumber(ARGV[8]) do
  known_as(ARGV[7], ARGV[at])
end
local answer = table.concat(created)
redis.call('SET', memory, answer, 'PX', ARGV[6])
return answer
