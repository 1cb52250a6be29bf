-- Give a lease back.
-- KEYS[1] the lease. ARGV[1] who had it.
-- Answers 1 when it was the asker's, else 0.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
