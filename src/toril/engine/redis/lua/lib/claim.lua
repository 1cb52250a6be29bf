-- Deduplication when a job is added.
-- include: queue
-- include: removal

local function hold(queue, key, id, ttl)
  if ttl then
    redis.call('SET', key, id, 'PX', ttl)
  else
    redis.call('SET', key, id)
  end
end

local function tell_deduplicated(queue, id, deid, other)
  if queue.is_v5 then
    event(queue, 'debounced', 'jobId', id, 'debounceId', deid)
  end
  event(queue, 'deduplicated', 'jobId', id, 'deduplicationId', deid, 'deduplicatedJobId', other)
end

-- The job that comes while the owner is active waits for its end; the last one wins.
local function keep_last(queue, key, pending, job)
  redis.call('DEL', pending)
  redis.call('HSET', pending, 'name', job.name, 'data', job.data, 'opts', job.opts, 'jid', job.id)
  redis.call('PERSIST', key)
end

-- Take the key for a job that is not stored yet, and answer nil; or answer the id of the job that stands for it. `de` is the option
-- as it is stored.
local function claim(queue, job, de)
  local key, pending = queue.base .. 'de:' .. de.id, queue.base .. 'dn:' .. de.id
  local ttl = not de.keepLastIfActive and de.ttl and de.ttl > 0 and whole(de.ttl) or nil
  local owner = redis.call('GET', key)
  if owner and redis.call('PTTL', key) == -1 and redis.call('EXISTS', queue.base .. owner) == 0 then
    -- Its job vanished without freeing it: nobody else ever would.
    redis.call('DEL', pending)
    owner = nil
  end
  if not owner then
    hold(queue, key, job.id, ttl)
    return nil
  end
  if de.replace and redis.call('ZREM', queue.base .. 'delayed', owner) == 1 then
    unlink(queue, owner, redis.call('HMGET', queue.base .. owner, 'parentKey', 'parent'))
    delete_job(queue, owner)
    redis.call('DEL', pending)
    event(queue, 'removed', 'jobId', owner, 'prev', 'delayed')
    tell_deduplicated(queue, job.id, de.id, owner)
    if ttl and not de.extend then
      redis.call('SET', key, job.id, 'KEEPTTL')
    else
      hold(queue, key, job.id, ttl)
    end
    return nil
  end
  if de.keepLastIfActive and redis.call('LPOS', queue.base .. 'active', owner) then
    keep_last(queue, key, pending, job)
    tell_deduplicated(queue, owner, de.id, job.id)
  elseif not de.replace then
    if ttl and de.extend then
      redis.call('SET', key, owner, 'PX', ttl)
    end
    tell_deduplicated(queue, owner, de.id, job.id)
  end
  return owner
end
