"""The peers that run durable workflows: each brings a server or a database of its own."""

from __future__ import annotations

from bench.contestants import Workload
from bench.peers.peer import Peer

_ENGINE = frozenset({Workload.ENGINE})
_NO_SUBJECT = "no waking of runs by the subject of an event"
_NO_TOKEN = "no fencing token for the services that a step calls"
_DIRECT = (
    "Workflows are durable too. Measured: direct calls in one process, without the queue, routing and leases that our"
    " figure includes."
)

ENGINES = (
    Peer(
        name="dbos",
        settings="SQLite (its default), sync workflows called directly from 8 threads",
        lacks=("no sharing of its SQLite file by several processes", _NO_SUBJECT, _NO_TOKEN),
        note=_DIRECT,
        workloads=_ENGINE,
    ),
    Peer(
        name="dbos-postgres",
        module="dbos_peer",
        settings="PostgreSQL with fsync, sync workflows called directly from 16 threads",
        lacks=(_NO_SUBJECT, _NO_TOKEN),
        note=_DIRECT,
        workloads=_ENGINE,
        environment={"BENCH_DATABASE": "postgres", "BENCH_THREADS": "16"},
    ),
    Peer(
        name="absurd",
        settings="PostgreSQL with fsync, async worker, batches of 16, polls every 10 ms (as shipped: 250 ms)",
        lacks=("no check of changed code against the history of a run", _NO_TOKEN),
        note="Tasks with checkpointed steps. The rate is that of the worker, with the tasks queued before.",
        workloads=_ENGINE,
    ),
    Peer(
        name="restate",
        settings="its server with 4 partitions, handler under hypercorn (HTTP/2), 32 callers",
        lacks=("no use of a Redis that is there already: a server of its own to operate",),
        note="The load generator shares the cores. Idle start → finish is a call over HTTP.",
        workloads=_ENGINE,
    ),
    Peer(
        name="temporal",
        settings="its development server (in memory), one worker, no sandbox, 32 callers",
        lacks=("no use of a Redis that is there already: a server cluster and its database to operate",),
        note="A development server, not a production cluster: not what Temporal can do.",
        workloads=_ENGINE,
    ),
)
