"""A run's history with what a replay of it needs, from one moment."""

from __future__ import annotations

from tests.contract.actor import Actor
from workflow_worker.model.ids import RunRef
from workflow_worker.store.transitions import Mode, Recorded


async def test_it_is_what_a_load_gives_the_holder(actor: Actor) -> None:
    run = await actor.started()
    await actor.commit(run, records=(b"one", b"two"))
    await actor.commit(run, Mode.KEEP, records=(b"three",))
    [loaded] = await actor.store.load(actor.session, [(run.ref, run.token)])
    assert loaded is not None
    assert loaded.records == (b"one", b"two", b"three")
    expected = Recorded(run.version, loaded.created_at, loaded.start, loaded.records)
    assert await actor.store.recorded(run.ref) == expected
    await actor.commit(run, Mode.END, records=())
    assert await actor.store.recorded(run.ref) == expected
    assert await actor.store.recorded(RunRef("no:run")) is None
