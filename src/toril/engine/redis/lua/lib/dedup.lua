-- Deduplication when its owner ends.
-- include: queue

-- A job finished. If it is the owner, a key without expiry is freed; a follow-up that was kept (keepLastIfActive) becomes a job now.
local function dedup_finished(queue, id, deid)
  if not deid or deid == '' then
    return
  end
  local key = queue.base .. 'de:' .. deid
  local pending = queue.base .. 'dn:' .. deid
  local owner = redis.call('GET', key)
  if owner and owner ~= id then
    return
  end
  if redis.call('EXISTS', pending) == 1 then
    local next_job = redis.call('HMGET', pending, 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'pdk', 'rjk')
    redis.call('DEL', pending)
    local next_id = next_job[4]
    local opts = next_job[3] or '{}'
    local fine, decoded = pcall(cjson.decode, opts)
    local priority, delay, lifo = 0, 0, false
    if fine and type(decoded) == 'table' then
      priority = tonumber(decoded.priority or 0) or 0
      delay = tonumber(decoded.delay or 0) or 0
      lifo = decoded.lifo == true
    end
    redis.call('INCR', queue.base .. 'id')
    local next_key = queue.base .. next_id
    redis.call('HSET', next_key, 'name', next_job[1], 'data', next_job[2], 'opts', opts, 'timestamp', whole(now),
      'delay', whole(delay), 'priority', whole(priority), 'deid', deid)
    if next_job[5] and next_job[6] then
      redis.call('HSET', next_key, 'parentKey', next_job[5], 'parent', next_job[6])
      if next_job[7] then
        redis.call('SADD', next_job[7], next_key)
      end
    end
    if next_job[8] then
      redis.call('HSET', next_key, 'rjk', next_job[8])
    end
    event(queue, 'added', 'jobId', next_id, 'name', next_job[1])
    if delay > 0 then
      put_in_delayed(queue, next_id, now + delay)
      mark_delayed(queue)
    else
      put_in_line(queue, next_id, priority, lifo)
      event(queue, 'waiting', 'jobId', next_id)
      mark(queue)
    end
    redis.call('SET', key, next_id)
  elseif owner and redis.call('PTTL', key) == -1 then
    redis.call('DEL', key)
  end
end

-- The owner was removed.
local function dedup_removed(queue, id, deid)
  if deid and deid ~= '' and redis.call('GET', queue.base .. 'de:' .. deid) == id then
    redis.call('DEL', queue.base .. 'de:' .. deid, queue.base .. 'dn:' .. deid)
  end
end
