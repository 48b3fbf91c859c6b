"""The peers that are task queues on Redis, at the best settings that we know for each."""

from __future__ import annotations

from pathlib import Path

from bench.peers.peer import ASYNC_QUEUE, TASK_QUEUE, Peer, several

_NOT_DURABLE = ("no history, no steps that are done once", "no timers or waits that survive a restart")
_AT_LEAST_ONCE = "at least once, nothing fences off the first attempt of a task that runs again"
_NO_ORDER = "no order by key"


def _taskiq(home: Path, count: int) -> list[str]:
    options = ["--workers", str(count), "--max-async-tasks", "200", "--max-prefetch", "200", "--log-level", "WARNING"]
    return [str(home / "bin" / "taskiq"), "worker", "bench.peers.taskiq_peer:broker", *options]


def _dramatiq(home: Path, count: int) -> list[str]:
    program = str(home / "bin" / "dramatiq")
    return [program, "bench.peers.dramatiq_peer", "--processes", str(count), "--threads", "2"]


def _own_program(module: str, home: Path, count: int) -> list[str]:
    return several(count, str(home / "bin" / "python"), "-m", f"bench.peers.{module}", "work", "0")


def _bullmq_node(home: Path, count: int) -> list[str]:
    del home  # node finds the packages by NODE_PATH
    return several(count, "node", str(Path(__file__).with_name("bullmq_node_peer.js")), "work", "0")


QUEUES = (
    Peer(
        name="taskiq",
        settings="RedisStreamBroker, ORJSON, xread_count 100, 200 async tasks, prefetch 200, uvloop",
        lacks=(*_NOT_DURABLE, _AT_LEAST_ONCE, _NO_ORDER, "no detection of repeated ids"),
        note="Entries stay in the stream unless maxlen is set.",
        workloads=ASYNC_QUEUE,
        workers=_taskiq,
    ),
    Peer(
        name="dramatiq",
        settings="RedisBroker, sync actor, 2 threads, queue prefetch 2000",
        lacks=(*_NOT_DURABLE, _AT_LEAST_ONCE, _NO_ORDER, "no detection of repeated ids"),
        note="Polls with back-off when idle.",
        workloads=TASK_QUEUE,
        workers=_dramatiq,
        environment={"dramatiq_queue_prefetch": "2000", "dramatiq_prom_port": "0"},
    ),
    Peer(
        name="docket",
        settings="concurrency 80, checks every 1 ms (as shipped: 250 ms), results not kept, uvloop",
        lacks=(*_NOT_DURABLE, _AT_LEAST_ONCE, _NO_ORDER),
        note="Single delayed tasks do survive; keys can detect repeats.",
        workloads=ASYNC_QUEUE,
        workers=lambda home, count: _own_program("docket_peer", home, count),
    ),
    Peer(
        name="streaq",
        settings="concurrency 8, results not kept, uvloop",
        lacks=(*_NOT_DURABLE, _AT_LEAST_ONCE, _NO_ORDER),
        workloads=ASYNC_QUEUE,
        workers=lambda home, count: _own_program("streaq_peer", home, count),
    ),
    Peer(
        name="arq",
        settings="max_jobs 100, polls every 10 ms (as shipped: 500 ms), results not kept, uvloop",
        lacks=(*_NOT_DURABLE, _AT_LEAST_ONCE, _NO_ORDER),
        note="Job ids detect repeats while the job or its result is there.",
        workloads=ASYNC_QUEUE,
        workers=lambda home, count: _own_program("arq_peer", home, count),
    ),
    Peer(
        name="bullmq",
        settings="Python, concurrency 10, finished jobs removed, uvloop",
        lacks=(*_NOT_DURABLE, "at least once; its lock has no fencing token", _NO_ORDER),
        note="Job ids detect repeats while the job is kept.",
        workloads=ASYNC_QUEUE,
        workers=lambda home, count: _own_program("bullmq_peer", home, count),
    ),
    Peer(
        name="bullmq-node",
        noop_share=1.0,
        settings="Node, concurrency 100, finished jobs removed",
        lacks=(*_NOT_DURABLE, "at least once; its lock has no fencing token", _NO_ORDER),
        note="Another language, with a JIT. Job ids detect repeats while the job is kept.",
        workloads=ASYNC_QUEUE,
        workers=_bullmq_node,
    ),
)
