"""One worker process as people see it."""

from __future__ import annotations

from dataclasses import dataclass

from workflow_worker.model.vitals import WorkerPhase
from workflow_worker.service.crew import Crew
from workflow_worker.service.health import HealthLimits, Observed, judge


@dataclass(frozen=True, slots=True)
class WorkerView:
    """`reasons` say why `status` is not better; counts are this process's own, not its slot's."""

    worker: str
    slot: int
    pid: int
    status: str
    reasons: tuple[str, ...]
    phase: str
    session: str
    executing: int
    held: int
    processed: int
    succeeded: int
    failed: int
    uptime_ms: int


def worker_views(crew: Crew, limits: HealthLimits, now: int) -> list[WorkerView]:
    """All worker processes that live, also those that drain after a scale down or a reload; in the order of slots."""
    restarted = {each.worker: each.restarted_at for each in crew.observed()}
    views: list[WorkerView] = []
    for child in sorted(crew.children(), key=lambda child: (child.slot, child.started_at)):
        signs = child.signs
        observed = Observed(child.name, signs, child.started_at, restarted.get(child.name))
        judged = judge([observed], limits, now).workers[0]
        views.append(
            WorkerView(
                worker=child.name,
                slot=child.slot,
                pid=child.pid,
                status=judged.status.value,
                reasons=judged.reasons,
                phase=WorkerPhase(signs.phase).name.lower(),
                session=child.row.session,
                executing=signs.executing,
                held=signs.held,
                processed=signs.processed,
                succeeded=signs.succeeded,
                failed=signs.failed,
                uptime_ms=max(0, now - child.started_at),
            )
        )
    return views
