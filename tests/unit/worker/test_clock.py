"""The server's time between two replies."""

from __future__ import annotations

import random
from dataclasses import dataclass

from workflow_worker.model.environment import Environment
from workflow_worker.worker.clock import ServerClock


@dataclass
class Monotonic:
    seconds: float = 100.0

    def __call__(self) -> float:
        return self.seconds


async def _no_sleep(seconds: float) -> None:
    raise AssertionError(f"slept {seconds} s in a pure test")


def make_clock(monotonic: Monotonic) -> ServerClock:
    environment = Environment(
        monotonic=monotonic,
        now_ms=lambda: 42,
        sleep=_no_sleep,
        random=random.Random(0),
        new_id=lambda: "id",
    )
    return ServerClock(environment)


def test_before_the_first_reply_the_wall_clock_serves() -> None:
    assert make_clock(Monotonic()).now_ms() == 42


def test_time_goes_on_between_replies() -> None:
    monotonic = Monotonic()
    clock = make_clock(monotonic)
    clock.observe(1_000_000)
    monotonic.seconds += 1.5
    assert clock.now_ms() == 1_001_500


def test_a_reply_that_was_slow_does_not_turn_the_clock_back() -> None:
    monotonic = Monotonic()
    clock = make_clock(monotonic)
    clock.observe(1_000_000)
    monotonic.seconds += 1.0
    clock.observe(1_000_900)
    assert clock.now_ms() == 1_001_000


def test_a_server_clock_that_was_set_back_is_believed() -> None:
    monotonic = Monotonic()
    clock = make_clock(monotonic)
    clock.observe(10_000_000)
    clock.observe(6_400_000)
    assert clock.now_ms() == 6_400_000


def test_a_server_clock_that_was_set_back_a_little_is_believed_after_a_while() -> None:
    monotonic = Monotonic()
    clock = make_clock(monotonic)
    clock.observe(1_000_000)
    for second in range(1, 31):
        monotonic.seconds += 1.0
        clock.observe(1_000_000 + second * 1_000 - 400)
    assert clock.now_ms() == 1_029_600


def test_one_slow_reply_among_good_ones_changes_nothing() -> None:
    monotonic = Monotonic()
    clock = make_clock(monotonic)
    for second in range(40):
        late_ms = 300 if second % 7 else 0
        clock.observe(1_000_000 + second * 1_000 - late_ms)
        assert clock.now_ms() == 1_000_000 + second * 1_000
        monotonic.seconds += 1.0


def test_a_reply_without_a_time_teaches_nothing() -> None:
    clock = make_clock(Monotonic())
    clock.observe(1_000_000)
    clock.observe(0)
    assert clock.now_ms() == 1_000_000
