-- Put jobs whose worker vanished back in line.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] how many stalls are allowed, [6] most jobs, [7] history record without its
-- number (JSON object begun: the rest is added here).
-- Answers {ids put back, ids that will fail}.
-- A job is taken back when it stood in `stalled` (it was active at the last look) and has no lock now; then all that is active is
-- put in `stalled`, so that the next look finds it.
-- include: queue

local queue = queue_of(base)
local allowed, most = tonumber(ARGV[5]), tonumber(ARGV[6])
local active, stalled = base .. 'active', base .. 'stalled'
local back, condemned = {}, {}
sized(queue)
for _, id in ipairs(redis.call('LRANGE', active, 0, -1)) do
  if #back >= most then
    break
  end
  local key = base .. id
  if redis.call('EXISTS', key .. ':lock') == 0 and redis.call('LREM', active, 1, id) == 1 then
    local fields = redis.call('HMGET', key, 'ats', 'pb', 'processedOn', 'toril:cancel', 'rjk')
    local count = redis.call('HINCRBY', key, 'stc', 1)
    local record = cjson.encode({
      w = fields[2] or '', s = tonumber(fields[3] or '') or now, e = now, o = 'stall', err = ARGV[7],
    })
    redis.call('HSET', key, history_field(key, fields[1]), record)
    if fields[4] then
      local fine, request = pcall(cjson.decode, fields[4])
      local reason = fine and request.reason or ''
      redis.call('HSET', key, 'defa', reason ~= '' and ('cancelled: ' .. reason) or 'cancelled')
    elseif count > allowed and not (fields[5] and redis.call('ZSCORE', base .. 'repeat', fields[5])) then
      redis.call('HSET', key, 'defa', 'job stalled more than allowable limit')
      condemned[#condemned + 1] = id
    end
    redis.call('RPUSH', queue.wait, id)
    event(queue, 'waiting', 'jobId', id, 'prev', 'active')
    event(queue, 'stalled', 'jobId', id)
    back[#back + 1] = id
  end
end
if #back > 0 then
  mark(queue)
end
return { back, condemned }
