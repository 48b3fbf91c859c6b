"""The Store on Redis or Valkey: Lua scripts that are whole transitions, and what calls them.

May import `model` and `store`. Read `store.py` and `lua/ingest.lua`, then `lua/commit.lua`; `keys.py` names every key.
"""
