-- Running work must be able to end when memory is full, or memory never becomes free: a server over `maxmemory` refuses
-- a script at its first write that needs memory, but not once it has written. This write needs none, changes nothing.
call('ZREM', P .. 'wakes', '')
