"""Two stores that name their entries differently are compared by what those names stand for."""

from __future__ import annotations

import pytest

from tests.simulation.names import Names
from workflow_worker.model.event import Event, Mail
from workflow_worker.model.ids import RunRef, SessionId
from workflow_worker.store.transitions import Ingest, Ingested, Publish, Published

OURS, THEIRS, OTHER = "1000000007-0", "1795567916454-0", "1795567916454-1"


def test_ids_stand_for_one_another_from_their_first_meeting_on() -> None:
    names = Names()
    assert names.same(Published(f"A:{OURS}"), Published(f"A:{THEIRS}"))
    assert names.same([Mail(OURS, Event(OURS, "ev"))], [Mail(THEIRS, Event(THEIRS, "ev"))])
    assert not names.same(OURS, OTHER)
    assert not names.same("1000000008-0", THEIRS)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Published("e1"), Published("e2")),
        (Published("e1"), Published("e1", duplicate=True)),
        (Mail(OURS, Event("e1", "ev")), Mail(THEIRS, Event("e1", "other"))),
        ([OURS], [THEIRS, THEIRS]),
        (f"A:{OURS}", f"B:{THEIRS}"),
        ("e1-7", "e1-8"),
        (b"record", b"recorD"),
        (1, 2),
        (None, OURS),
    ],
    ids=str,
)
def test_everything_else_must_be_equal(ours: object, theirs: object) -> None:
    assert not Names().same(ours, theirs)


def test_ids_of_another_stream_are_other_ids() -> None:
    names = Names()
    assert names.same(OURS, THEIRS)
    assert names.same(Ingested(1, (), cursor="1000000009-3"), Ingested(1, (), cursor=THEIRS))
    assert names.to_theirs("1000000009-3") == THEIRS
    assert names.to_ours(f"A:{THEIRS}") == f"A:{OURS}"


def test_arguments_are_put_into_the_servers_words() -> None:
    names = Names()
    assert names.bind(OURS, THEIRS)
    request = Ingest(SessionId("w1.1"), 1, 5, "mark", OURS)
    assert names.to_theirs((request, (RunRef(f"A:{OURS}"), 7))) == (
        Ingest(SessionId("w1.1"), 1, 5, "mark", THEIRS),
        (f"A:{THEIRS}", 7),
    )
    plain = (Publish(Event("e1-5", "ev", data=OURS.encode())),)
    assert names.to_theirs(plain) is plain
    assert names.to_theirs(OTHER) == OTHER
