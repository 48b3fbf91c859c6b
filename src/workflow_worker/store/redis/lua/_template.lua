-- A run's id from the parts of a start route's template; nil when a part is missing.
local function make_run_id(template, event_id, subject)
  if #template == 0 then return event_id end
  local parts = {}
  for i = 1, #template do
    local part = template[i]
    if string.sub(part, 1, 1) == '=' then
      parts[i] = string.sub(part, 2)
    elseif part == 'id' then
      parts[i] = event_id
    elseif subject then
      parts[i] = subject
    else
      return nil
    end
  end
  return table.concat(parts)
end
