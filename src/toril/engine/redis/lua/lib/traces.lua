-- What a job's own options say, and its stack traces.

-- An option of the job, looked for before the JSON is taken apart: few jobs have any of those.
local function option(opts, name)
  if opts and string.find(opts, '"' .. name .. '":', 1, true) then
    local fine, decoded = pcall(cjson.decode, opts)
    return fine and type(decoded) == 'table' and decoded[name] or nil
  end
  return nil
end

-- The stack traces of a job with one more: the last ten, or fewer if its producer says so.
local function stack_with(stored, entry, opts)
  local most = math.min(math.max(tonumber(option(opts, 'stackTraceLimit')) or 10, 0), 10)
  if most == 0 then
    return '[]'
  end
  local stack = {}
  if stored then
    local fine, decoded = pcall(cjson.decode, stored)
    if fine and type(decoded) == 'table' then
      stack = decoded
    end
  end
  stack[#stack + 1] = entry
  while #stack > most do
    table.remove(stack, 1)
  end
  return cjson.encode(stack)
end
