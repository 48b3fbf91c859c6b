"""What goes wrong, one fault at a time, from a seeded list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.server import Server
from tests.simulation.worker import Worker


class Faults:
    """Injects faults until `until`; `dense` means many failovers. Those that `spared` names by number do not happen."""

    def __init__(
        self, server: Server, workers: Sequence[Worker], until: int, *, dense: bool, spared: frozenset[int]
    ) -> None:
        self.server = server
        self.kernel = server.kernel
        self.workers = workers
        self.planned: list[tuple[int, str]] = []
        self._spared = spared
        self._faults: dict[str, Callable[[Worker], None]] = {
            "kill": Worker.kill,
            "pause": self._pause,
            "loop pause": self._pause_loop,
            "drain": Worker.drain,
            "hang": Worker.hang,
            "outage": self._outage,
            "clock": self._jump,
            "failover": self._fail_over,
            "memory": self._fill,
        }
        names = [*self._faults, *(["failover"] * 5 if dense else [])]
        when = 300
        while when < until:
            when += self.kernel.between(40, 300 if dense else 400)
            self._plan(when, self.kernel.random.choice(names))

    def _plan(self, when: int, name: str) -> None:
        number = len(self.planned)
        self.planned.append((when, name))

        def strike() -> None:
            if not self.server.quiet and number not in self._spared:
                self.kernel.counts["fault " + name] += 1
                self.kernel.note("fault", name)
                self._faults[name](self.kernel.random.choice(self.workers))

        self.kernel.at(when, strike)

    def _pause(self, worker: Worker) -> None:
        worker.paused_until = self.kernel.now + self.kernel.between(100, 1_800)

    def _pause_loop(self, worker: Worker) -> None:
        worker.loop_paused_until = self.kernel.now + self.kernel.between(100, 1_800)

    def _outage(self, worker: Worker) -> None:
        del worker
        self.server.down_until = self.kernel.now + self.kernel.between(50, 1_200)

    def _fill(self, worker: Worker) -> None:
        """Memory gets scarce for a while; a tick must see it before anybody knows."""
        del worker
        self.server.fill(self.kernel.random.choice([60, 90, 99]))
        self.kernel.after(self.kernel.between(100, 800), lambda: self.server.fill(10))

    def _jump(self, worker: Worker) -> None:
        del worker
        self.server.shift(self.kernel.random.choice([-5, 5, -300, 300, -5_000, 5_000, -60_000, 30_000]))

    def _fail_over(self, worker: Worker) -> None:
        """What is done in the next milliseconds will be lost."""
        del worker
        saved, kernel = self.server.snapshot(), self.kernel

        def promote() -> None:
            if not self.server.quiet:
                self.server.restore(saved)
                self.server.shift(kernel.random.choice([0, 0, -3, -40, 200]))
                self.server.down_until = kernel.now + kernel.between(0, 300)

        lost = kernel.random.choice([kernel.between(2, 30), kernel.between(2, 200), kernel.between(100, 500)])
        kernel.after(lost, promote)
