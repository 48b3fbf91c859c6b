"""All peers by name.

To add one: its packages in `versions`, its program ``bench/peers/<name>_peer.py`` (see `bench.load`), and a `Peer` in
`queues` or `engines`.
"""

from __future__ import annotations

from bench.peers.engines import ENGINES
from bench.peers.peer import Peer
from bench.peers.queues import QUEUES

PEERS: dict[str, Peer] = {peer.name: peer for peer in (*QUEUES, *ENGINES)}
