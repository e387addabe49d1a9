-- Tells everything about values as one line of text; put in front of each script.
local function dump(value, depth)
    local kind = type(value)
    if kind == 'number' then
        return value ~= value and 'nan' or string.format('%.17g', value)
    elseif kind == 'string' then
        return '"' .. value:gsub('[^%w %p]', function(byte)
            return string.format('\\%03d', byte:byte())
        end) .. '"'
    elseif kind == 'userdata' then
        return value == cjson.null and 'null' or 'userdata'
    elseif kind == 'boolean' then
        return tostring(value)
    elseif kind ~= 'table' then
        return kind
    elseif depth > 30 then
        return '{deep}'
    end
    local entries = {}
    for key, element in pairs(value) do
        entries[#entries + 1] = dump(key, depth + 1) .. '=' .. dump(element, depth + 1)
    end
    table.sort(entries)
    return '{' .. table.concat(entries, ',') .. '}'
end

local function show(...)
    local out = {}
    for i = 1, select('#', ...) do
        out[i] = dump((select(i, ...)), 0)
    end
    return table.concat(out, ' ')
end

local lines = {}
local function try(f, ...)
    lines[#lines + 1] = show(pcall(f, ...))
end
local function count(f, ...)
    local function results(...)
        local ok, first = ...
        if not ok then
            return tostring(first)
        end
        return select('#', ...)
    end
    lines[#lines + 1] = show(results(pcall(f, ...)))
end
