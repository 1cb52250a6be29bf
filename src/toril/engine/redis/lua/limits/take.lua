-- Check several limits, and count against all of them when there is room in all. The arithmetic is that of ports/metering.py.
-- KEYS[1] the first key. ARGV[1] '1' to count, [2..] for each demand: the number of its checks, then per check five:
-- key, most, per in µs, burst (0: a window), cost.
-- Answers per check three numbers: remaining, the wait until there is room in ms (-1: never), the wait until all is free in ms.

local PARTS = 16
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local counting = ARGV[1] == '1'
local answer = {}

local function ms(us)
  return math.ceil(us / 1000)
end

local function gcra(meter, most, per, burst, cost)
  local step = math.max(1, math.ceil(per / most))
  local room = burst * step
  local present = math.max(meter and meter[1] or now, now)
  local full = present + cost * step
  if full - now > room then
    local retry = cost > burst and -1 or ms(full - now - room)
    return math.floor((room - present + now) / step), retry, ms(present - now)
  end
  return math.floor((room - full + now) / step), 0, ms(full - now), { full }, full
end

local function window(meter, most, per, cost)
  local length = math.max(1, math.ceil(per / PARTS))
  local start, used, total = now, { 0 }, 0
  if meter then
    local steps = math.floor(math.max(now - meter[1], 0) / length)
    if steps <= PARTS then
      start = meter[1] + steps * length
      for place = 1, steps do
        used[place] = 0
      end
      for place = 2, math.min(#meter, PARTS + 2 - steps) do
        used[steps + place - 1] = meter[place]
        total = total + meter[place]
      end
    end
  end
  local fits = total + cost <= most
  if fits then
    used[1] = used[1] + cost
  end
  local left = 0
  for place = 1, #used do
    if used[place] > 0 then
      left = start + (PARTS + 2 - place) * length - now
      break
    end
  end
  if fits then
    table.insert(used, 1, start)
    return most - total - cost, 0, ms(left), used, now + left
  end
  local retry = -1
  if cost <= most then
    local wanted = total + cost - most
    for place = #used, 1, -1 do
      wanted = wanted - used[place]
      if wanted <= 0 then
        retry = ms(start + (PARTS + 2 - place) * length - now)
        break
      end
    end
  end
  return math.max(most - total, 0), retry, ms(left)
end

local at = 2
while at <= #ARGV do
  local checks = tonumber(ARGV[at])
  local fits = true
  local counted = {}
  at = at + 1
  for _ = 1, checks do
    local key, most, per = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local burst, cost = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
    local stored = redis.call('GET', key)
    local meter = stored and cmsgpack.unpack(stored)
    local remaining, retry, reset, new, until_
    if burst > 0 then
      remaining, retry, reset, new, until_ = gcra(meter, most, per, burst, cost)
    else
      remaining, retry, reset, new, until_ = window(meter, most, per, cost)
    end
    answer[#answer + 1] = remaining
    answer[#answer + 1] = retry
    answer[#answer + 1] = reset
    fits = fits and retry == 0
    if counting and cost > 0 and new then
      counted[#counted + 1] = { key, new, until_ }
    end
    at = at + 5
  end
  if fits then
    for _, one in ipairs(counted) do
      redis.call('SET', one[1], cmsgpack.pack(one[2]), 'PX', string.format('%.0f', math.max(1, ms(one[3] - now))))
    end
  end
end
return answer
