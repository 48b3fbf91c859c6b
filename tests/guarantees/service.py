"""A real service in processes of its own, as an operator runs it, and what an outsider can see of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
ORDERS = ROOT / "examples" / "orders.py"
ACTIONS = ("reserve_stock", "charge", "ship")

T = TypeVar("T")


async def eventually(look: Callable[[], T | None] | Callable[[], Awaitable[T | None]], within_s: float, what: str) -> T:
    """Ask until the answer is truthy; what is waited for is a fact, not a time.

    Raises:
        AssertionError: It did not come within `within_s` seconds.
    """
    deadline = time.monotonic() + within_s
    while True:
        found: Any = look()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Service:
    """``workflow-worker start`` in a process of its own."""

    url: str
    port: int
    folder: Path
    app: Path = ORDERS
    environment: dict[str, str] = field(default_factory=dict[str, str])
    mode: str = "start"
    process: subprocess.Popen[bytes] | None = None

    @property
    def effects(self) -> Path:
        """Where the example's actions write what they did."""
        return self.folder / "effects.log"

    @property
    def log(self) -> Path:
        """Everything the service and its workers logged."""
        return self.folder / f"service-{self.port}.log"

    def start(self) -> Service:
        """Begin; use `ready` to wait for it."""
        environment = {
            **os.environ,
            "REDIS_URL": self.url,
            "PORT": str(self.port),
            "WORKER_COUNT": "2",
            "LOG_FORMAT": "json",
            "ORDERS_EFFECTS": str(self.effects),
            "HEALTH_CHECK_INTERVAL_MS": "200",
            **self.environment,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workflow_worker", self.mode, str(self.app)],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    async def ready(self, within_s: float = 20) -> Service:
        """Wait until the service calls itself healthy."""
        await eventually(lambda: self.health().get("status") == "healthy", within_s, f"healthy service, see {self.log}")
        return self

    def stop(self, within_s: float = 20) -> int:
        """SIGTERM and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL for the service and its workers: a server that lost its power."""
        pids = [worker["pid"] for worker in self.workers()] if self.process and self.process.poll() is None else []
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    # ----------------------------------------------------------------------------------------------------- what it says

    def get(self, path: str) -> tuple[int, str]:
        """GET a path; (0, "") while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def health(self) -> dict[str, Any]:
        """The health report, empty while nobody answers."""
        _, text = self.get("/api/health/worker")
        return json.loads(text) if text else {}

    def workers(self) -> list[dict[str, Any]]:
        """The worker processes as the service sees them."""
        _, text = self.get("/api/workers")
        return json.loads(text)["items"] if text else []

    def metrics(self) -> dict[str, float]:
        """All metrics without labels."""
        _, text = self.get("/metrics")
        found: dict[str, float] = {}
        for line in text.splitlines():
            if line and not line.startswith("#") and "{" not in line:
                name, value = line.split()
                found[name] = float(value)
        return found

    def cli(self, *arguments: str, check: bool = True, errors: bool = False) -> str:
        """Run a command beside the service; its stdout, with `errors` its stderr."""
        done = subprocess.run(
            [sys.executable, "-m", "workflow_worker", *arguments],
            cwd=self.folder,
            env={**os.environ, "REDIS_URL": self.url, "PORT": str(self.port), **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stderr if errors else done.stdout


@dataclass(frozen=True)
class Effect:
    """One line that an action of the example wrote."""

    order: str
    action: str
    key: str
    attempt: int


def read_effects(path: Path) -> list[Effect]:
    """What the actions did, in the order in which they did it."""
    if not path.exists():
        return []
    lines = [line.split(" ") for line in path.read_text().splitlines()]
    return [Effect(order, action, key, int(attempt)) for order, action, key, attempt in lines]


@dataclass(frozen=True)
class Verdict:
    """What the effects file says about a set of orders."""

    done: int
    repeated: int
    """Actions that ran more than once: allowed when a worker died between the effect and its record."""
    disordered: int


def judge(effects: list[Effect], orders: list[str]) -> Verdict:
    """Every order must have its three effects, first occurrences in the order of the steps, and one key per step.

    Raises:
        AssertionError: An effect is missing, or a step saw two idempotency keys.
    """
    by_order: dict[str, list[Effect]] = {}
    for effect in effects:
        by_order.setdefault(effect.order, []).append(effect)
    missing = {
        order: sorted(set(ACTIONS) - {e.action for e in by_order.get(order, [])})
        for order in orders
        if {e.action for e in by_order.get(order, [])} != set(ACTIONS)
    }
    assert not missing, f"{len(missing)} orders lack effects, for example {dict(list(missing.items())[:3])}"
    repeated = disordered = 0
    for order in orders:
        found = by_order[order]
        keys = {(e.action, e.key) for e in found}
        assert len(keys) == len(ACTIONS), f"{order}: a step saw two idempotency keys: {sorted(keys)}"
        repeated += sum(count - 1 for count in Counter(e.action for e in found).values())
        firsts = list(dict.fromkeys(e.action for e in found))
        disordered += firsts != list(ACTIONS)
    return Verdict(len(orders), repeated, disordered)


@contextlib.contextmanager
def started(*services: Service) -> Generator[None]:
    """Start services, and kill what is left of them at the end."""
    try:
        for service in services:
            service.start()
        yield
    finally:
        for service in services:
            service.kill()
