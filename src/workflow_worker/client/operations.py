"""What a person does to runs and dead letters, by their ids; the store's refusals become errors that say what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from workflow_worker.client.patience import Patience
from workflow_worker.model.exceptions import NotFound, Refused, UsageError
from workflow_worker.model.ids import RunRef, split_run_ref
from workflow_worker.model.instants import to_ms
from workflow_worker.model.record import RunResumed, encode_record
from workflow_worker.model.run import RunStatus, RunView
from workflow_worker.store.protocol import Store

DROPPED_AT_ONCE = 1_000_000
"""Dead letters that one call deletes at most."""
MOST_OF_A_NAME = 200
MOST_OF_A_TEXT = 2_000
"""Characters of who asks, and of a reason or note: they are kept in histories and in the log of what people did."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Each names who asked (`by`), for the history and the audit trail. All may be repeated.

    All raise `UsageError` for a `by` of more than 200 characters, or a reason or note of more than 2,000.
    """

    store: Store
    patience: Patience

    async def find(self, run_id: str) -> RunView:
        """A run by its id, with its workflow in front (``fulfil:order-o-1``) or without.

        Raises:
            NotFound: There is none.
            Refused: Runs of several workflows have this id; the message names them.
        """
        try:
            split_run_ref(run_id)
        except UsageError:
            found = None
        else:
            found = await self.patience.call(lambda: self.store.run(RunRef(run_id)))
        if found is not None:
            return found
        # An id may hold a colon itself, so a full name that finds nothing is tried as an id.
        refs = await self.patience.call(lambda: self.store.find_runs(run_id))
        if len(refs) > 1:
            raise Refused(f"several runs have the id {run_id}: say which of {', '.join(sorted(refs))}")
        found = await self.patience.call(lambda: self.store.run(refs[0])) if refs else None
        if found is None:
            raise NotFound(f"there is no run {run_id}; it may have ended longer ago than RETENTION_HOURS")
        return found

    async def cancel(self, run_id: str, by: str, reason: str = "") -> RunRef:
        """Ask a run to end; it may clean up first.

        Raises:
            NotFound: There is no such run.
            Refused: It has ended, or was asked before.
        """
        _check(by, reason=reason)
        run = await self.find(run_id)
        word = await self.patience.call(lambda: self.store.cancel(RunRef(run.ref), by, reason))
        if word == "already":
            now = await self.find(run.ref)
            if now.status.ended:
                raise Refused(f"run {run.ref} has ended already: it is {now.status.value}")
            raise Refused(f"run {run.ref} was asked to end before and has not yet: it is {now.status.value}")
        return self._there(word, run)

    async def resume(self, run_id: str, by: str, note: str = "") -> RunRef:
        """Let a suspended run go on; the step that failed is tried again.

        Raises:
            NotFound: There is no such run.
            Refused: It is not suspended.
        """
        _check(by, note=note)
        run = await self.find(run_id)
        if run.status is not RunStatus.SUSPENDED:
            raise Refused(f"run {run.ref} is {run.status.value}, only a suspended run can be resumed")
        record = encode_record(RunResumed(self.patience.environment.now_ms(), by, note))
        word = await self.patience.call(lambda: self.store.resume(RunRef(run.ref), record, by))
        if word == "already":
            raise Refused(f"run {run.ref} is not suspended any more: somebody resumed it meanwhile")
        return self._there(word, run)

    async def redrive(self, letter_id: str, by: str) -> None:
        """Send a dead letter's event again; a run's copy goes to that run alone.

        Raises:
            NotFound: There is no such dead letter.
            Refused: It was sent again before.
        """
        _check(by)
        word = await self.patience.call(lambda: self.store.redrive(letter_id, by))
        if word == "already":
            raise Refused(f"dead letter {letter_id} was sent again before")
        if word == "gone":
            raise _no_letter(letter_id)

    async def drop(self, letter_id: str, by: str) -> None:
        """Delete a dead letter for good.

        Raises:
            NotFound: There is no such dead letter, or no more.
        """
        _check(by)
        word = await self.patience.call(lambda: self.store.drop(letter_id, by))
        if word != "ok":
            raise _no_letter(letter_id)

    async def drop_letters(
        self,
        by: str,
        *,
        reason: str = "",
        type: str | None = None,
        older: float | timedelta = 0,
        limit: int = DROPPED_AT_ONCE,
    ) -> int:
        """Delete dead letters that wait for good, the oldest first; those that were sent again are left alone.

        Args:
            by: Who asks.
            reason: Only those whose reason begins so, as ``undeclared`` or ``rejected``.
            type: Only of this event type.
            older: Only those that are here for longer, in seconds or as a `timedelta`.
            limit: At most so many.

        Returns:
            How many went. Not one transition: after `StoreUnavailable` some are gone; the same again goes on.
        """
        _check(by, reason=reason)
        span = to_ms(older)
        before = self.patience.environment.now_ms() - span if span else None
        return await self.patience.call(lambda: self.store.drop_letters(reason, type, before, limit, by))

    async def note(self, by: str, act: str, on: str, more: str = "") -> None:
        """Write down what somebody is about to do by events; the acts above are written down by the store itself."""
        _check(by)
        await self.patience.call(lambda: self.store.note(by, act, on, more))

    @staticmethod
    def _there(word: str, run: RunView) -> RunRef:
        if word == "gone":
            raise NotFound(f"run {run.ref} is gone: its time was over (RETENTION_HOURS)")
        return RunRef(run.ref)


def _check(by: str, **texts: str) -> None:
    for name, text, most in (
        ("by", by, MOST_OF_A_NAME),
        *((name, text, MOST_OF_A_TEXT) for name, text in texts.items()),
    ):
        if len(text) > most:
            raise UsageError(f"{name} has {len(text):,} characters: at most {most:,}")


def _no_letter(letter_id: str) -> NotFound:
    return NotFound(f"there is no dead letter {letter_id}: `workflow-worker dead list` shows those there are")
