-- Compare and set.
-- KEYS[1] the key. ARGV[1] time to live in ms, [2] '1' when a value is expected, [3] that value, [4] '1' when a value is to be
-- stored, [5] that value.
-- Answers 1 when the present value was the expected one, else 0.

local present = redis.call('GET', KEYS[1])
if ARGV[2] == '1' then
  if present ~= ARGV[3] then
    return 0
  end
elseif present then
  return 0
end
if ARGV[4] == '1' and tonumber(ARGV[1]) > 0 then
  redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[1])
else
  redis.call('DEL', KEYS[1])
end
return 1
