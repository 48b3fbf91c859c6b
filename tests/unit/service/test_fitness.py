"""A server that has stopped being fit is reported once, and once more when it has been fit in between."""

from __future__ import annotations

from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.model.facts import Fact
from workflow_worker.service.facts import ServerUnfit, ServiceFact
from workflow_worker.service.fitness import FitnessWatch
from workflow_worker.store.memory.store import MemoryStore
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import Limits


async def test_each_reason_is_reported_once_until_it_is_gone() -> None:
    evicts, no_file, away = ConfigurationError("evicts"), ConfigurationError("no file"), StoreUnavailable("away")
    answers: list[Exception | None] = [None, evicts, evicts, away, evicts, no_file, None, no_file]
    remaining = iter(answers)
    told: list[Fact | ServiceFact] = []

    async def open_checked() -> Store:
        answer = next(remaining)
        if answer is not None:
            raise answer
        return MemoryStore(Limits(), lambda: 1_000_000)

    watch = FitnessWatch(open_checked, told.append)
    for _ in answers:
        await watch.look()
    assert told == [ServerUnfit("evicts"), ServerUnfit("no file"), ServerUnfit("no file")]
