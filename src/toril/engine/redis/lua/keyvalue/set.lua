-- Store values, all of them in one step.
-- KEYS[1] the first key. ARGV[1] time to live in ms, [2..] per value: key, value.
-- Answers 1.

local ttl = tonumber(ARGV[1])
for at = 2, #ARGV, 2 do
  if ttl > 0 then
    redis.call('SET', ARGV[at], ARGV[at + 1], 'PX', ARGV[1])
  else
    redis.call('DEL', ARGV[at])
  end
end
return 1
