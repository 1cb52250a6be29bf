-- Read jobs, each with the place where it is.
-- KEYS[1] meta. ARGV[1..4] see lib/queue; [5..] ids.
-- Answers per id: nil, or {place, score or '', fields and values}.
-- include: queue
-- include: lookup

local found = {}
for at = 5, #ARGV do
  local id = ARGV[at]
  local flat = hash_of(id)
  local place, score
  if flat then
    place, score = place_of(id)
    -- Other hashes of a queue (its settings, a scheduler) lack what every job has.
    if not place and not redis.call('HGET', base .. id, 'timestamp') then
      flat = nil
    end
  end
  found[#found + 1] = flat and { place or 'wait', score or '', flat } or false
end
return found
