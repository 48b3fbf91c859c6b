"""The parts of the Redis store that need no server."""
