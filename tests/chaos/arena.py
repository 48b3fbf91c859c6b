"""Everything that takes part in a chaos run: the Redis server, the services with their workers, proxies, producers.

A `Site` stands for one server of an operator: a service whose workers reach Redis through a fault proxy of the site's
own. All processes are ours, and are ended by their own handles.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.faults import MEASURED
from tests.chaos.probe import Probe
from tests.chaos.producers import Order, arguments_of
from tests.chaos.workload import MAX_EVENT_BYTES
from tests.guarantees.service import ROOT, Service
from tests.support.proxy import Cut, FaultProxy
from tests.support.servers import RunningServer, free_port, server_binary
from workflow_worker.store.redis.scripts import load_scripts

CRASHED = 86
"""Exit code of a process that ended itself at a crash point."""
_PRODUCERS_SCRIPTS = ("publish", "cancel")
_SHA = re.compile(rb"\$40\r\n([0-9a-f]{40})\r\n")
_DIES_AT_POINT = 0.02
"""How likely a producer that is to die at a point does so each time it passes it."""
APP = ROOT / "tests" / "chaos" / "app.py"
ARM = "arm"
"""A file: while it is there, workers that start arm themselves; each leaves a byte in it."""
PREFIX = "ww:{ww:0}:"


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a chaos run is. `seconds` is how long producers spread their events over; faults are spread alike."""

    server: str = "valkey-9.1"
    events: int = 2_000
    faults: int = 30
    seed: int = 1
    seconds: float = 30
    lease_ms: int = 2_000
    slow: bool = False
    lanes: int = 2
    backlog: int = 600
    armed: bool = True
    measured: int | None = None
    """Faults that come alone and are measured; None: a share of all."""
    measure: tuple[str, ...] = MEASURED
    """Which kinds are measured, in turn."""
    rest_within_s: float = 120
    """When the faults are over, everything must have ended by then; what has not is stuck."""


class Site:
    """One server: a service, its workers, and its way to Redis."""

    def __init__(self, name: str, workers: int, upstream: Path, folder: Path, scale: Scale) -> None:
        self.name = name
        self.workers_wanted = workers
        self.proxy = FaultProxy(upstream, seed=scale.seed)
        self._folder = folder
        self._scale = scale
        self._port = free_port()
        self.service: Service | None = None
        self._orphans = set[int]()

    def start(self, *, armed: bool = True, **settings: str) -> None:
        """Start the service; its workers arm themselves with crash points where `armed` is set."""
        environment = {
            "WORKER_COUNT": str(self.workers_wanted),
            "CONCURRENCY_LIMIT": "40",
            "BATCH_SIZE": "40",
            "POLL_INTERVAL_MS": "500",
            "LEASE_TTL_MS": str(self._scale.lease_ms),
            "STALL_LIMIT_MS": "30000",
            "MAX_EVENT_BYTES": str(MAX_EVENT_BYTES),
            "SHUTDOWN_GRACE_MS": "5000",
            "CHAOS_EFFECTS": str(self._folder / "effects.log"),
            "CHAOS_ARM": str(self._folder / ARM) if armed and self._scale.armed else "",
            **settings,
        }
        self.service = Service(self.proxy.url, self._port, self._folder, app=APP, environment=environment).start()

    @property
    def alive(self) -> bool:
        """Its service runs."""
        return self.service is not None and self.service.process is not None and self.service.process.poll() is None

    @property
    def log(self) -> Path:
        """What its service and workers logged."""
        assert self.service is not None
        return self.service.log

    def worker_pids(self) -> list[int]:
        """Its worker processes, also those of a supervisor that has died."""
        self._orphans = {pid for pid in self._orphans if is_worker(pid)}
        found: list[int] = []
        if self.alive:
            assert self.service is not None
            assert self.service.process is not None
            found = workers_below(self.service.process.pid)
        return [*found, *self._orphans]

    def healthy(self) -> bool:
        """What its health says; False while it does not answer."""
        return self.service is not None and self.service.health().get("status") == "healthy"

    def worker_names(self) -> list[str]:
        """Its workers as HTTP names them."""
        return [] if self.service is None else [str(worker["worker"]) for worker in self.service.workers()]

    def executing(self) -> int:
        """Runs that its workers execute at this moment."""
        return sum(self.busy().values())

    def busy(self) -> dict[int, int]:
        """How many runs each of its workers executes, by process id."""
        found = [] if self.service is None else self.service.workers()
        return {int(worker["pid"]): int(worker["executing"]) for worker in found}

    def kill(self) -> list[int]:
        """The power fails: service and workers die at once. Returns the workers' process ids."""
        pids = self.worker_pids()
        self.kill_supervisor()
        for pid in pids:
            end(pid, signal.SIGKILL)
        return pids

    def kill_supervisor(self) -> None:
        """Only the service itself dies; its workers find out by themselves."""
        self._orphans.update(self.worker_pids())
        if self.service is not None and self.service.process is not None:
            self.service.process.kill()
            self.service.process.wait(10)

    def rescale(self, count: int) -> bool:
        """Ask for so many workers over HTTP; False when it did not accept."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/api/scale",
            json.dumps({"workers": count}).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return answer.status == 202
        except (OSError, urllib.error.HTTPError):
            return False

    def stop(self) -> int:
        """SIGTERM; the exit code of the service."""
        assert self.service is not None
        return self.service.stop(30)


def workers_below(pid: int) -> list[int]:
    """Worker processes of a service."""
    try:
        return [child.pid for child in psutil.Process(pid).children() if is_worker(child.pid)]
    except psutil.Error:
        return []


def is_worker(pid: int) -> bool:
    """Whether a process lives and is a worker of ours."""
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return "workflow-worker worker" in words and any(str(APP) in word for word in words)


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False


def end(pid: int, number: signal.Signals) -> bool:
    """Send a signal; False if the process has gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@dataclass
class Lane:
    """One producer process, started anew when it has died; `armed` is the point at which it dies by itself."""

    order: Order
    log: Path
    process: subprocess.Popen[bytes] | None = None
    armed: tuple[str, str] | None = None
    died_at: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])

    def start(self, point: str = "", way: str = "") -> None:
        """Publish what is not acknowledged yet; where a point is named, die there now and then."""
        self.armed = (point, way) if point else None
        fault = {"WW_FAULT": f"{point}:{way}:{_DIES_AT_POINT}:{len(self.died_at)}"} if point else {}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                arguments_of(self.order), cwd=ROOT, env={**os.environ, **fault}, stdout=log, stderr=log
            )

    def poll(self) -> int | None:
        """Its exit code; None while it runs. One that died at its point is counted."""
        code = None if self.process is None else self.process.poll()
        if self.armed is not None and code in (CRASHED, -signal.SIGKILL):
            self.died_at[self.armed] += 1
            self.armed = None
        return code

    def kill(self) -> bool:
        """Kill it in the middle of whatever it does; False when it had ended."""
        if self.process is None or self.process.poll() is not None:
            return False
        self.armed = None
        self.process.kill()
        self.process.wait(10)
        return True


class Arena:
    """The whole scene; a context manager that leaves no process behind."""

    def __init__(self, scale: Scale, folder: Path) -> None:
        self.scale = scale
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError(f"{folder} is not empty: a chaos run needs a folder of its own")
        self.redis = RunningServer(
            server_binary(scale.server),
            folder / "server",
            appendonly=True,
            appendfsync="always",
            auto_aof_rewrite_min_size="256mb",
        )
        socket = self.redis.socket_path
        self.sites = [Site("a", 2, socket, folder, scale), Site("b", 1, socket, folder, scale)]
        self.way_in = FaultProxy(socket, seed=scale.seed)
        """The producers' way to Redis."""
        self.lanes: list[Lane] = []
        self.probe = Probe(socket, folder / "receipts-probe.jsonl")
        self.shas = {name: script.sha.encode() for name, script in load_scripts().items()}
        self._names = {sha: name for name, sha in self.shas.items()}
        self.cut_scripts = Counter[tuple[str, Cut]]()
        """Whose call each cut met."""
        for proxy in self.proxies.values():
            proxy.on_cut = self._note_cut
        self.down = asyncio.Lock()
        """Held while a fault has Redis down: one such fault at a time."""

    @property
    def proxies(self) -> dict[str, FaultProxy]:
        """All proxies by their names."""
        return {site.name: site.proxy for site in self.sites} | {"producers": self.way_in}

    def ways_of(self, script: str) -> list[str]:
        """The proxies through which this script is called."""
        return ["producers"] if script in _PRODUCERS_SCRIPTS else [site.name for site in self.sites]

    @property
    def effects(self) -> Path:
        """The effects file."""
        return self.folder / "effects.log"

    @property
    def receipts(self) -> list[Path]:
        """Of all producers."""
        return [*(lane.order.receipts for lane in self.lanes), self.probe.receipts]

    def _note_cut(self, cut: Cut, request: bytes) -> None:
        found = _SHA.search(request)
        self.cut_scripts[self._names.get(found.group(1), "another") if found else "another", cut] += 1

    def __enter__(self) -> Arena:
        try:
            self.redis.start()
            for proxy in self.proxies.values():
                proxy.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything."""
        for lane in self.lanes:
            lane.kill()
        for site in self.sites:
            site.kill()
        for proxy in self.proxies.values():
            proxy.stop()
        self.redis.stop()

    def start_producers(self) -> None:
        """Begin to publish."""
        scale = self.scale
        for lane in range(scale.lanes):
            order = Order(
                url=self.way_in.url,
                receipts=self.folder / f"receipts-{lane}.jsonl",
                seed=scale.seed,
                events=scale.events,
                slow=scale.slow,
                lanes=scale.lanes,
                lane=lane,
                rate=scale.events / scale.seconds / scale.lanes,
                backlog=scale.backlog,
                began=time.monotonic(),
            )
            self.lanes.append(Lane(order, self.folder / f"producer-{lane}.log"))
            self.lanes[-1].start()

    def arm(self, armed: bool) -> None:
        """Whether workers that start from now on die or stop at a point of their own."""
        there, away = self.folder / ARM, self.folder / f"{ARM}.off"
        if armed and not there.exists():
            away.rename(there) if away.exists() else there.touch()
        elif not armed and there.exists():
            there.rename(away)

    def worker_pids(self) -> list[int]:
        """All workers of all sites."""
        return [pid for site in self.sites for pid in site.worker_pids()]

    def admin(self) -> Any:
        """A connection of the server's operator, past all proxies; the caller closes it."""
        return redis.Redis(unix_socket_path=str(self.redis.socket_path), socket_timeout=3, retry=Retry(NoBackoff(), 0))
