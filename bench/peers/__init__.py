"""What we are measured beside: one small program a peer, run in the peer's own environment, and their registry."""
