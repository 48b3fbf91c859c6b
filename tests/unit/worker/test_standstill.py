"""A part stands still when its turn lasts too long while the store answers others."""

from __future__ import annotations

import pytest

from workflow_worker.model.vitals import VitalSigns
from workflow_worker.worker.standstill import (
    COMMITTER,
    INTAKE,
    Standstill,
    answering_since,
    is_beyond_help,
    standstills,
)

NOW = 1_000_000
POLL_MS, LEASE_MS = 1_000, 10_000


def signs(**ages: int) -> VitalSigns:
    """Vital signs of a worker whose store has answered for an hour, but for the ages (ms) given."""
    made = VitalSigns()
    for name, age in {"answering_since": 900_000, "roundtrip_at": 50, "renewed_at": 1_900, **ages}.items():
        setattr(made, name, NOW - age)
    return made


@pytest.mark.parametrize(
    ("made", "found"),
    [
        (signs(), ()),
        (signs(intake_since=4_000), ()),
        (signs(intake_since=4_001), (Standstill("intake", 4_001),)),
        (signs(commit_since=3_000), ()),
        (signs(commit_since=3_001), (Standstill("committer", 3_001),)),
        (signs(errand_since=9_000), (Standstill("errands", 9_000),)),
        (signs(tick_since=9_000, intake_since=8_000), (Standstill("intake", 8_000), Standstill("ticker", 9_000))),
        # After an outage the parts get their time from its end on.
        (signs(intake_since=600_000, answering_since=4_000), ()),
        (signs(intake_since=600_000, answering_since=4_500), (Standstill("intake", 4_500),)),
        # During an outage nobody stands still.
        (signs(intake_since=600_000, roundtrip_at=4_001, renewed_at=5_000), ()),
        (signs(intake_since=600_000, roundtrip_at=600_000, renewed_at=4_000), (Standstill("intake", 600_000),)),
    ],
)
def test_which_parts_stand_still(made: VitalSigns, found: tuple[Standstill, ...]) -> None:
    assert standstills(made, POLL_MS, LEASE_MS, NOW) == found


def test_the_intake_may_sleep_as_long_as_it_polls() -> None:
    assert standstills(signs(intake_since=179_000), 60_000, LEASE_MS, NOW) == ()
    assert standstills(signs(intake_since=180_001), 60_000, LEASE_MS, NOW) == (Standstill("intake", 180_001),)


@pytest.mark.parametrize(
    ("made", "since"),
    [
        (VitalSigns(), 0),
        (signs(), NOW - 900_000),
        (signs(answering_since=NOW), NOW - 50),
        (signs(roundtrip_at=3_900, renewed_at=3_900), NOW - 900_000),
        (signs(roundtrip_at=4_001, renewed_at=4_001), 0),
    ],
)
def test_since_when_the_store_answers(made: VitalSigns, since: int) -> None:
    assert answering_since(made, POLL_MS, LEASE_MS, NOW) == since


def test_a_rare_renewal_is_no_silence() -> None:
    # A lease of ten minutes is renewed every two: nothing else would answer while the shared connection hangs.
    made = signs(roundtrip_at=600_000, renewed_at=119_000, intake_since=300_000)
    assert standstills(made, POLL_MS, 600_000, NOW) == (Standstill("intake", 300_000),)


@pytest.mark.parametrize(
    ("stood", "silent_ms", "hopeless"),
    [
        (Standstill(INTAKE, 30_000), 30_001, False),
        (Standstill(INTAKE, 30_001), 30_001, True),
        (Standstill(COMMITTER, 30_001), 30_001, True),
        (Standstill(INTAKE, 300_000), 900, False),
        (Standstill(INTAKE, 300_001), 900, True),
        (Standstill(COMMITTER, 3_000_000), 900, False),
    ],
)
def test_silence_is_beyond_help_and_a_refusal_is_not(stood: Standstill, silent_ms: int, hopeless: bool) -> None:
    assert is_beyond_help(stood, silent_ms, 30_000) is hopeless
