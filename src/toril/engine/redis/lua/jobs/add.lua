-- Add jobs, all of them in one step.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] batch id, [6] how long it is remembered (ms), [7] set of known queues, [8]
-- queue name, [9] '1' when the caller has put it there before, [10] '' or JSON: the option `de` of each job that has a unique key, by the
-- number of the job, [11..] per job: id name data opts timestamp delay priority lifo.
-- Answers a letter per job: '1' created, '0' there before, 'd' another job has its key; then the ids of those as a JSON array.
-- include: queue
-- include: claim

local queue = queue_of(base)
local memory = own .. 'batch:' .. ARGV[5]
local earlier = redis.call('GET', memory)
if earlier then
  return earlier
end
-- A queue without settings is new, or was obliterated after the caller had put it in the set.
local is_unknown = queue.unsized or ARGV[9] ~= '1'
sized(queue)
local total = (#ARGV - 10) / 8
local claims = ARGV[10] ~= '' and cjson.decode(ARGV[10]) or {}
if total > 0 then
  redis.call('INCRBY', base .. 'id', total)
end

local created, owners = {}, {}
local waiting = {}
local ready, delayed = false, false

local function flush()
  -- One call for many plain jobs; the limit is Lua's stack.
  for first = 1, #waiting, 1000 do
    redis.call('LPUSH', queue.wait, unpack(waiting, first, math.min(first + 999, #waiting)))
  end
  waiting = {}
end

for number = 0, total - 1 do
  local at = 11 + number * 8
  local id, name, data, opts, timestamp = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local delay, priority, lifo = tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6]), ARGV[at + 7] == '1'
  local key = base .. id
  local de = claims[tostring(number)]
  local owner = nil
  if de and redis.call('EXISTS', key) == 0 then
    owner = claim(queue, { id = id, name = name, data = data, opts = opts }, de)
  end
  if owner then
    created[number + 1] = 'd'
    owners[#owners + 1] = owner
  elseif redis.call('HSETNX', key, 'name', name) == 0 then
    created[number + 1] = '0'
    event(queue, 'duplicated', 'jobId', id)
  else
    created[number + 1] = '1'
    redis.call('HSET', key, 'data', data, 'opts', opts, 'timestamp', timestamp, 'delay', ARGV[at + 5], 'priority', ARGV[at + 6])
    if de then
      redis.call('HSET', key, 'deid', de.id)
    end
    event(queue, 'added', 'jobId', id, 'name', name)
    if delay > 0 then
      put_in_delayed(queue, id, now + delay)
      delayed = true
    else
      if priority > 0 then
        put_in_line(queue, id, priority, false)
      elseif lifo then
        -- Plain jobs that came before must be in the list first, so that both orders hold.
        flush()
        put_in_line(queue, id, 0, true)
      else
        waiting[#waiting + 1] = id
      end
      event(queue, 'waiting', 'jobId', id)
      ready = true
    end
  end
end
flush()
if ready then
  mark(queue)
end
if delayed then
  mark_delayed(queue)
end
local answer = table.concat(created) .. (#owners > 0 and cjson.encode(owners) or '')
redis.call('SET', memory, answer, 'PX', ARGV[6])
if is_unknown then
  known_as(ARGV[7], ARGV[8])
end
return answer
