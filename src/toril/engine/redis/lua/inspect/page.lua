-- A part of the jobs of one state, in the order of the line, of due time or of finishing.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5] state (waiting for what is in line), [6] '1' for the other way round, [7] most
-- jobs, [8] most ids to look at, [9] '1' to want a name, [10] the name, [11] '1' to want an owner, [12] the owner, [13] how many
-- words tell where to go on (0: at the beginning), [14..] these words.
-- In a set they are score and id of the last job that was looked at. In a list ids have no number, so they are: the place of the
-- next one, counted from the front; how many ids follow that were looked at before it; these; and the ids behind it.
-- Answers {{id, score or '', fields and values} per job, words to go on with (empty: nothing is left)}.
-- include: queue
-- include: lookup

local state, down, most, budget = ARGV[5], ARGV[6] == '1', tonumber(ARGV[7]), tonumber(ARGV[8])
local name, owner = ARGV[9] == '1' and ARGV[10], ARGV[11] == '1' and ARGV[12]
local going_on = tonumber(ARGV[13]) > 0
local LISTS = { waiting = { 'paused', 'wait' }, active = { 'active' } }
local ANCHORS = 10

-- Byte by byte, as Redis orders members of one score; Lua's own order depends on the machine's language.
local function precedes(left, right)
  for at = 1, math.min(#left, #right) do
    local one, other = string.byte(left, at), string.byte(right, at)
    if one ~= other then
      return one < other
    end
  end
  return #left < #right
end

-- How many members of a set stand before (score, id), or, with `inclusive`, up to it; whether it is still there or not.
local function members_before(key, score, id, inclusive)
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local high = low + redis.call('ZCOUNT', key, score, score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local member = redis.call('ZRANGE', key, middle, middle)[1]
    if precedes(member, id) or (inclusive and member == id) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

local function wanted(id)
  if not name and not owner then
    return true
  end
  local fields = redis.call('HMGET', base .. id, 'name', 'opts')
  if name and fields[1] ~= name then
    return false
  end
  if owner then
    local fine, opts = pcall(cjson.decode, fields[2] or '')
    local ours = fine and type(opts) == 'table' and opts.toril
    return type(ours) == 'table' and ours.owner == owner
  end
  return true
end

local jobs, looked = {}, 0

local function look_at(id, score)
  looked = looked + 1
  if wanted(id) then
    local flat = hash_of(id)
    if flat then
      jobs[#jobs + 1] = { id, score, flat }
    end
  end
  return #jobs >= most or looked >= budget
end

-- `read(n)` gives ids and scores of the next n places and goes on; nothing at the end.
local function walk(read)
  while true do
    local ids, scores = read(math.min(200, budget))
    if #ids == 0 then
      return nil
    end
    for number, id in ipairs(ids) do
      if look_at(id, scores and scores[number] or '') then
        return ids, number, scores
      end
    end
  end
end

local function page_of_set()
  local key = base .. state
  local at = 0
  if down then
    at = going_on and members_before(key, ARGV[14], ARGV[15], false) or redis.call('ZCARD', key)
  elseif going_on then
    at = members_before(key, ARGV[14], ARGV[15], true)
  end
  local function read(many)
    local pairs_
    if down then
      local low = math.max(0, at - many)
      pairs_ = at > 0 and redis.call('ZRANGE', key, low, at - 1, 'WITHSCORES') or {}
      at = low
    else
      pairs_ = redis.call('ZRANGE', key, at, at + many - 1, 'WITHSCORES')
      at = at + many
    end
    local ids, scores = {}, {}
    for number = 1, #pairs_ / 2 do
      local from = down and #pairs_ - 2 * number + 1 or 2 * number - 1
      ids[number], scores[number] = pairs_[from], pairs_[from + 1]
    end
    return ids, scores
  end
  local ids, number, scores = walk(read)
  if not ids or (number == #ids and #read(1) == 0) then
    return {}
  end
  return { scores[number], ids[number] }
end

-- Ids of places first..last of the line, counted from its front; the front of a list is its right end. Where BullMQ 5 has
-- paused a queue it keeps the line in another list, which comes before what others have added since.
local function slice(first, last)
  local ids, passed = {}, 0
  first = math.max(first, 0)
  for _, list in ipairs(LISTS[state]) do
    local length = redis.call('LLEN', base .. list)
    local low, high = math.max(first - passed, 0), math.min(last - passed, length - 1)
    if low <= high then
      local part = redis.call('LRANGE', base .. list, length - 1 - high, length - 1 - low)
      for at = #part, 1, -1 do
        ids[#ids + 1] = part[at]
      end
    end
    passed = passed + length
  end
  return ids
end

local function length_of_line()
  local length = 0
  for _, list in ipairs(LISTS[state]) do
    length = length + redis.call('LLEN', base .. list)
  end
  return length
end

-- Where each of some ids is in the line now. The places near the expected one are looked at first; the whole line up to there only
-- when none of them is near.
local function places_of(ids, expected)
  for _, reach in ipairs({ 100, 4000 }) do
    local from = math.max(0, expected - reach)
    local near, places = {}, {}
    for number, id in ipairs(slice(from, expected + reach)) do
      near[id] = from + number - 1
    end
    for _, id in ipairs(ids) do
      places[id] = near[id]
    end
    if next(places) then
      return places
    end
  end
  local places, passed = {}, 0
  for _, list in ipairs(LISTS[state]) do
    local length = redis.call('LLEN', base .. list)
    for _, id in ipairs(ids) do
      local index = redis.call('LPOS', base .. list, id, 'RANK', -1)
      if index then
        places[id] = passed + length - 1 - index
      end
    end
    passed = passed + length
  end
  return places
end

-- The place to go on at: behind the ids that were looked at, before those that came next. Some may have left the line, and some
-- may have come back at one of its ends; the place that agrees with most of them is right.
local function place_to_go_on()
  local expected, seen = tonumber(ARGV[14]), tonumber(ARGV[15])
  local ids = {}
  for at = 16, 13 + tonumber(ARGV[13]) do
    ids[#ids + 1] = ARGV[at]
  end
  local places = places_of(ids, expected)
  local sign = down and -1 or 1
  local bounds = {}
  for number, id in ipairs(ids) do
    local place = places[id]
    if place then
      local behind = number <= seen
      bounds[#bounds + 1] = { at = sign * place + (behind and 1 or 0), behind = behind }
    end
  end
  local best, agreed = nil, 0
  for _, candidate in ipairs(bounds) do
    local agree = 0
    for _, bound in ipairs(bounds) do
      if (bound.behind and candidate.at >= bound.at) or (not bound.behind and candidate.at <= bound.at) then
        agree = agree + 1
      end
    end
    if agree > agreed then
      best, agreed = candidate.at, agree
    end
  end
  if best then
    return sign * best
  end
  -- All of them were taken meanwhile, so everything before them was, too: from the front what is left is new to the reader, from
  -- the back there is nothing left that he has not seen.
  return down and -1 or 0
end

local function page_of_list()
  local at = going_on and place_to_go_on() or (down and length_of_line() - 1 or 0)
  local function read(many)
    local ids = {}
    if down then
      local part = at >= 0 and slice(at - many + 1, at) or {}
      for number = #part, 1, -1 do
        ids[#ids + 1] = part[number]
      end
      at = at - many
    else
      ids = slice(at, at + many - 1)
      at = at + many
    end
    return ids
  end
  local start = at
  local ids = walk(read)
  local step = down and -1 or 1
  local next_place = start + step * looked
  if not ids or next_place < 0 or next_place >= length_of_line() then
    return {}
  end
  local words = { tostring(next_place), '0' }
  local low, high = next_place - step * ANCHORS, next_place - step
  local before = slice(math.min(low, high), math.max(low, high))
  local after = slice(math.min(next_place, next_place + step * (ANCHORS - 1)), math.max(next_place, next_place + step * (ANCHORS - 1)))
  words[2] = tostring(#before)
  for _, id in ipairs(before) do
    words[#words + 1] = id
  end
  for _, id in ipairs(after) do
    words[#words + 1] = id
  end
  return words
end

local words = LISTS[state] and page_of_list() or page_of_set()
return { jobs, words }
