"""`Results`: everything measured in one run, kept as JSON and read by whoever writes tables."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from bench.figures import FIGURES, Measured, median_of, spread_of
from bench.machine import Machine

FOLDER = Path(__file__).parent / "results"


@dataclass
class Line:
    """One contestant's repetitions, each with the yardstick of its own minute."""

    name: str
    title: str
    settings: str
    lacks: tuple[str, ...] = ()
    note: str = ""
    runs: list[Measured] = field(default_factory=list[Measured])
    trouble: str = ""
    """Why it was not run, or not to the end."""
    broken: list[str] = field(default_factory=list[str])
    """Names of the workloads that it did not get through; not tried again."""

    @property
    def medians(self) -> Measured:
        """The median of each figure."""
        return median_of(self.runs)

    def to_yardstick(self, name: str) -> float | None:
        """Median of the ratios of a rate to the yardstick that ran before it; None for anything but a rate."""
        ratios = [run[name] / run["yardstick"] for run in self.runs if name in run and "yardstick" in run]
        return statistics.median(ratios) if ratios and FIGURES[name].rate else None

    def spread(self, name: str) -> tuple[float, float]:
        """Least and greatest value of a figure."""
        return spread_of(self.runs, name)


@dataclass
class Results:
    """One run of the harness."""

    begun: str
    command: str
    machine: Machine
    server: str
    persistence: str
    repetitions: int
    sizes: dict[str, int]
    lines: list[Line] = field(default_factory=list[Line])
    took_s: float = 0.0
    other_load: float = 0.0
    """Load average just before: what else kept the machine busy."""

    def line(self, name: str) -> Line | None:
        """A contestant's line, if it was measured."""
        return next((line for line in self.lines if line.name == name and line.runs), None)

    def best_peer(self, figure: str, ours: Sequence[str]) -> tuple[str, float] | None:
        """Which peer does best in a figure, and how well."""
        found = [
            (line.title, line.medians[figure])
            for line in self.lines
            if line.name not in ours and figure in line.medians
        ]
        if not found:
            return None
        choose = max if FIGURES[figure].more_is_better else min
        return choose(found, key=lambda pair: pair[1])

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read a saved run.

        Raises:
            OSError: The file cannot be read.
            msgspec.ValidationError: It is none, or of another version of the harness.
        """
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def save(self) -> Path:
        """Write it beside the earlier ones."""
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{self.begun.replace(':', '').replace(' ', 'T')}.json"
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path
