-- Take a lease, or renew it.
-- KEYS[1] the lease. ARGV[1] who asks, [2] for how many ms.
-- Answers {1 when it is the asker's, in how many ms it runs out}.

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return { 0, math.max(redis.call('PTTL', KEYS[1]), 0) }
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return { 1, tonumber(ARGV[2]) }
