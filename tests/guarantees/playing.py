"""Playing workers by hand: sessions that ingest, commit, renew and die exactly when a test wants it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.guarantees.jobs import make_app
from tests.guarantees.service import eventually
from tests.guarantees.trial import Trial
from workflow_worker.model.ids import CommitId, SessionId
from workflow_worker.model.run import RunStatus
from workflow_worker.store.protocol import Store
from workflow_worker.store.transitions import (
    Commit,
    Ingest,
    Ingested,
    IngestOutcome,
    LeasedRun,
    Mode,
    Registration,
    Renewed,
    SessionLost,
)


@dataclass
class Player:
    """One session; numbers its ingests and commits as a worker does."""

    store: Store
    session: SessionId
    registration: Registration
    number: int = 0
    commits: int = 0
    cids: dict[str, CommitId] = field(default_factory=dict[str, CommitId])

    async def begin(self) -> None:
        """Open the session (again: nothing changes)."""
        await self.store.open(self.session)

    async def renew(self) -> Renewed:
        """Keep the session alive.

        Raises:
            AssertionError: It was lost.
        """
        answer = await self.store.renew(self.session, [])
        assert isinstance(answer, Renewed), f"{self.session} was lost"
        return answer

    async def ingest(self, room: int) -> list[LeasedRun]:
        """The runs that the next ingest leases.

        Raises:
            AssertionError: The session was lost.
        """
        outcome = await self._ingest(room)
        assert isinstance(outcome, Ingested), f"{self.session}: {outcome}"
        return list(outcome.runs)

    async def may_not_ingest(self) -> bool:
        """Whether the store refuses the session's ingest."""
        return isinstance(await self._ingest(1), SessionLost)

    async def _ingest(self, room: int) -> IngestOutcome:
        self.number += 1
        return await self.store.ingest(Ingest(self.session, self.number, room, self.registration.mark))

    def step(self, run: LeasedRun, mode: Mode, **more: Any) -> Commit:
        """The next commit of a leased run."""
        self.commits += 1
        status = {Mode.KEEP: RunStatus.RUNNING, Mode.RELEASE: RunStatus.WAITING, Mode.END: RunStatus.COMPLETED}[mode]
        values: dict[str, Any] = {
            "base": self.cids.get(run.ref, run.cid),
            "cid": CommitId(f"{self.session}/{self.commits}"),
            "records": (b"record",),
            "status": status,
            "taken": len(run.mail),
            "last_taken": run.mail[-1].entry if run.mail else "",
        }
        return Commit(ref=run.ref, session=self.session, token=run.token, mode=mode, **(values | more))


@asynccontextmanager
async def players(trial: Trial, *names: str) -> AsyncGenerator[list[Player]]:
    """Sessions of these names, open, each with connections of its own."""
    registration = make_app(trial.trace).registration()
    async with AsyncExitStack() as stack:
        found = [
            Player(await stack.enter_async_context(trial.store()), SessionId(name), registration) for name in names
        ]
        await found[0].store.register(registration)
        for player in found:
            await player.begin()
        yield found


async def let_expire(trial: Trial, session: str, keep: Player) -> None:
    """Wait until a session that nobody renews is reaped, while another lives and ticks."""

    async def gone() -> bool:
        await keep.renew()
        await keep.store.tick()
        async with trial.raw() as raw:
            return await raw.zscore(trial.prefix + "sessions", session) is None and not await raw.zcard(
                trial.prefix + "reaping"
            )

    await eventually(gone, 10, f"session {session} is reaped")
