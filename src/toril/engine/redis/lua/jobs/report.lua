-- Store progress and log lines of running jobs.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5..] per report: kind (progress or log), id, token, text, lines to keep.
-- include: queue

local queue = queue_of(base)
for at = 5, #ARGV, 5 do
  local kind, id, token, text, kept = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  -- A job may have been deleted under its lock: a report does not bring part of it back.
  if redis.call('GET', base .. id .. ':lock') == token and redis.call('EXISTS', base .. id) == 1 then
    if kind == 'progress' then
      redis.call('HSET', base .. id, 'progress', text)
      event(queue, 'progress', 'jobId', id, 'data', text)
    else
      redis.call('RPUSH', base .. id .. ':logs', text)
      redis.call('LTRIM', base .. id .. ':logs', -tonumber(kept), -1)
      event(queue, 'log', 'jobId', id, 'line', text)
    end
  end
end
return 1
