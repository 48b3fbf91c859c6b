"""The real `Environment`: standard library clocks, randomness, ids, and fault points from WW_FAULT."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import uuid
from collections.abc import Callable

from workflow_worker.model.environment import Environment
from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable

_ACTIONS = ("exit", "kill", "stop", "sleep", "raise")


def real_environment(fault_spec: str | None = None) -> Environment:
    """Clock, sleep, randomness and ids of this machine.

    Args:
        fault_spec: ``point:action:probability:seed``, several separated by commas (variable WW_FAULT, for tests):
            at the named point do ``exit`` (code 86, no clean-up), ``kill`` (SIGKILL), ``stop`` (SIGSTOP), ``sleep``
            (blocks for 0.2 s) or ``raise`` (`StoreUnavailable`). None: no fault points at all.

    Raises:
        ConfigurationError: The specification cannot be read.
    """
    return Environment(
        monotonic=time.monotonic,
        now_ms=lambda: time.time_ns() // 1_000_000,
        sleep=asyncio.sleep,
        random=random.Random(),
        new_id=lambda: uuid.uuid4().hex,
        fault=_fault_points(fault_spec) if fault_spec else None,
    )


def _fault_points(spec: str) -> Callable[[str], None]:
    points: dict[str, tuple[str, float, random.Random]] = {}
    for part in spec.split(","):
        try:
            name, action, probability, seed = part.split(":")
            if action not in _ACTIONS:
                raise ValueError(action)
            points[name] = (action, float(probability), random.Random(int(seed) + os.getpid() if seed else None))
        except ValueError as error:
            raise ConfigurationError(
                f"WW_FAULT={spec!r} is not usable: write point:action:probability:seed with action one of"
                f" {', '.join(_ACTIONS)}"
            ) from error

    def fault(point: str) -> None:
        chosen = points.get(point)
        if chosen is None or chosen[2].random() >= chosen[1]:
            return
        match chosen[0]:
            case "exit":
                os._exit(86)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "sleep":
                time.sleep(0.2)
            case _:
                raise StoreUnavailable(f"fault injected at {point}")

    return fault
