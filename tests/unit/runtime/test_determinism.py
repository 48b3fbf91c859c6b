"""The same records give the same commands: in another process, after a kill at any record, on another heap."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.runtime.driver import Driver
from tests.unit.runtime.programs import again, live, main_of
from workflow_worker.model.command import (
    AddWait,
    CancelAction,
    Cancelled,
    CancelTimer,
    Command,
    Complete,
    EmitEvent,
    Fail,
    MarkPatch,
    RemoveWait,
    Restart,
    SetState,
    StartAction,
    StartTimer,
    Suspend,
)

ROOT = Path(__file__).parents[3]
PROGRAMS = 300
CHAOS_PROGRAMS = 1_500


def script(module: str, *arguments: object, hash_seed: int, without: str = "") -> str:
    """Run a module of these tests in a fresh interpreter with its own hash seed; its output."""
    environment: Mapping[str, str] = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "WITHOUT": without}
    done = subprocess.run(
        [sys.executable, "-m", f"tests.unit.runtime.{module}", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0 or without, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def replay_elsewhere(path: Path, first: int, count: int) -> None:
    script("programs", "live", path, first, count, hash_seed=1)
    for hash_seed in (2, 3):
        assert script("programs", "replay", path, first, count, hash_seed=hash_seed) == "differing: []\n"


def killed_and_resumed_everywhere(first: int, count: int) -> int:
    """After every prefix of a history: what a replay asks for is what is outstanding live, and the rest goes alike."""
    resumed = 0
    for seed in range(first, first + count):
        history, steps = live(seed)
        outstanding: dict[object, Command] = {}
        for length, commands in enumerate(steps):
            if length:
                outstanding.pop(getattr(history[length - 1], "number", None), None)
            _apply(outstanding, commands)
            driver = Driver(main_of(seed), history[:length])
            expected: dict[object, Command] = {}
            _apply(expected, driver.given)
            assert expected == outstanding, (seed, length)
            if not driver.run.finished:
                kept = [c for c in outstanding.values() if isinstance(c, StartAction | StartTimer | AddWait)]
                assert sorted(map(repr, driver.run.outstanding())) == sorted(map(repr, kept)), (seed, length)
            if length + 1 < len(steps):
                assert _without_state(driver.feed(history[length])) == _without_state(steps[length + 1]), (seed, length)
            driver.close()
            resumed += 1
    return resumed


def _apply(outstanding: dict[object, Command], commands: list[Command]) -> None:
    for command in commands:
        match command:
            case StartAction() | StartTimer():
                outstanding[command.number] = command
            case CancelAction() | CancelTimer():
                del outstanding[command.number]
            case AddWait():
                outstanding[command.event_type, command.subject] = command
            case RemoveWait():
                del outstanding[command.event_type, command.subject]
            case SetState():
                outstanding["state"] = command
            case EmitEvent() | MarkPatch():
                pass  # sent with the record that they follow
            case Complete() | Fail() | Cancelled() | Restart() | Suspend():
                state = outstanding.get("state")
                outstanding.clear()
                if state is not None:
                    outstanding["state"] = state
                outstanding["end"] = command


def _without_state(commands: list[Command]) -> list[Command]:
    return [command for command in commands if not isinstance(command, SetState)]


def test_random_programs_replay_in_another_process(tmp_path: Path) -> None:
    replay_elsewhere(tmp_path / "histories", 0, PROGRAMS)


def test_random_programs_survive_a_kill_after_every_record() -> None:
    assert killed_and_resumed_everywhere(0, PROGRAMS) > PROGRAMS


def test_replay_in_the_same_process_gives_the_same_commands() -> None:
    for seed in range(100):
        history, steps = live(seed)
        assert again(seed, history) == steps


@pytest.mark.parametrize("without", ["sets", "hashes"])
def test_either_measure_alone_is_not_enough(tmp_path: Path, without: str) -> None:
    path = tmp_path / "histories"
    script("programs", "live", path, 0, PROGRAMS, hash_seed=1, without=without)
    output = script("programs", "replay", path, 0, PROGRAMS, hash_seed=2, without=without)
    assert output.startswith("differing: ["), output
    assert output != "differing: []\n"


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_many_random_programs(tmp_path: Path) -> None:
    replay_elsewhere(tmp_path / "histories", 10_000, CHAOS_PROGRAMS)
    assert killed_and_resumed_everywhere(10_000, CHAOS_PROGRAMS) > CHAOS_PROGRAMS


def test_orders_that_asyncio_leaves_to_chance_are_one_in_many_processes() -> None:
    seen = {script("orders", hash_seed=hash_seed) for hash_seed in range(1, 13)}
    assert len(seen) == 1, seen


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_orders_that_asyncio_leaves_to_chance_are_one_in_forty_processes() -> None:
    seen = {script("orders", hash_seed=hash_seed) for hash_seed in range(100, 140)}
    assert len(seen) == 1, seen
