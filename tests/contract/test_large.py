"""More than Lua hands to one command, about 8,000 values."""

from __future__ import annotations

from tests.contract.actor import Actor
from workflow_worker.model.event import Event
from workflow_worker.store.transitions import Emit, Mode

NOTE = Event("", "ww.note", data=b'"hello"')


async def test_more_answers_than_one_command_takes(actor: Actor) -> None:
    one, two = await actor.started("1"), await actor.started("2")
    for first in range(1, 8_401, 600):
        emits = tuple(Emit(number, NOTE, "fulfil", "order-2") for number in range(first, first + 600))
        assert (await actor.commit(one, emits=emits)).word == "ok"
        while (await actor.store.depth()).events:
            await actor.ingest(200)
    kept = await actor.commit(two)
    assert (kept.word, len(kept.mail)) == ("ok", 8_400)
    refused = await actor.commit(two, Mode.END)
    assert (refused.word, len(refused.mail)) == ("mail", 8_400)
    ended = await actor.commit(two, Mode.END, taken=kept.mail)
    assert ended.word == "ok"
