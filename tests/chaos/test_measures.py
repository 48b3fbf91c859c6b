"""The figures of a chaos run come out right for small diaries that one can check by hand, and the page is kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec

from tests.chaos import measures
from tests.chaos.arena import Scale
from tests.chaos.faults import SHARES, Happened
from tests.chaos.measures import Probed, Repeats, Spread
from tests.chaos.operating import NewPromises
from tests.chaos.report import command_of, document, markdown, not_exercised, put_into_page, too_slow
from tests.chaos.run import Outcome
from tests.support.checker import Finding, Verdict
from tests.support.checker_facts import Armed, Effect, Promise
from tests.support.proxy import Cut

S = 1_000_000_000


def line(word: str, run: str, pid: int, at_s: float, nonce: str, step: int = 1, attempt: int = 1) -> Effect:
    """One line of the effects file."""
    return Effect(word, run, step, "work", f"{run}/{step}", attempt, 1, pid, round(at_s * S), nonce)


def happened(kind: str, began_s: float, ended_s: float, *pids: int, calm: bool = True) -> Happened:
    """One line of the diary."""
    return Happened(kind, round(began_s * S), round(ended_s * S), pids, calm=calm)


def probed(run: str, sent_s: float, acknowledged_s: float) -> Probed:
    """One event of the probe."""
    return Probed(run, round(sent_s * S), round(acknowledged_s * S))


def test_consumption_is_back_when_the_first_event_acknowledged_then_has_its_effect() -> None:
    probes = [probed("one:1", 8, 8.1), probed("one:2", 9, 10.25), probed("one:3", 12, 12.75), probed("one:4", 13, 13.5)]
    effects = [
        line("begin", "one:0", 1, 10.1, "z"),  # taken in before the fault: that it goes on says nothing
        line("begin", "one:1", 1, 10.2, "y"),  # acknowledged before the fault
        line("begin", "one:2", 1, 12, "a"),
        line("begin", "one:2", 2, 12.2, "b"),  # once more
        line("begin", "one:3", 1, 13, "c"),
    ]
    diary = [happened("redis killed", 9, 10), happened("redis frozen", 9, 12.5), happened("scripts flushed", 1, 1)]
    back = measures.consumption_back(effects, diary, probes, calm=True)
    assert back == {"redis killed": Spread(1, 2, 2, 2), "redis frozen": Spread(1, 0.5, 0.5, 0.5)}
    assert measures.consumption_back(effects, diary, probes, calm=False) == {}
    never = [happened("redis killed", 12.9, 13)]
    assert measures.consumption_back(effects, never, probes, calm=True) == {}, "lost: that is for the checker to say"


def test_in_a_storm_any_event_acknowledged_since_redis_was_last_back_shows_that_consumption_is_back() -> None:
    probes = [probed("one:1", 9, 10.25), probed("one:2", 10.5, 10.75), probed("one:3", 13, 13.25)]
    effects = [
        line("begin", "one:2", 1, 11, "a"),
        line("begin", "one:3", 1, 13.5, "b"),
        line("begin", "one:1", 1, 20, "c"),  # its holder died meanwhile
    ]
    alone = [replace(happened("redis killed", 9, 10), calm=False)]
    assert measures.consumption_back(effects, alone, probes, calm=False) == {"redis killed": Spread(1, 1, 1, 1)}
    frozen_too = [*alone, replace(happened("redis frozen", 9.5, 13), calm=False)]
    back = measures.consumption_back(effects, frozen_too, probes, calm=False)
    assert back == {"redis killed": Spread(1, 0.5, 0.5, 0.5), "redis frozen": Spread(1, 0.5, 0.5, 0.5)}
    later = [*alone, replace(happened("redis frozen", 10.1, 10.2), calm=False)]
    assert measures.consumption_back(effects, later, probes, calm=False)["redis killed"] == Spread(1, 1, 1, 1)


def test_news_are_read_once_and_by_whole_lines(tmp_path: Path) -> None:
    effects = tmp_path / "effects.log"
    effects.write_text("begin one:1 1 work\n")
    news = measures.News(effects)
    with effects.open("a") as lines:
        lines.write("end one:1 1 work\nbegin one:2 1 work\nbegin one:")
    assert news.begun() == ["one:2"]
    with effects.open("a") as lines:
        lines.write("3 1 work\n")
    assert news.begun() == ["one:3"]
    assert news.begun() == []


def test_the_operator_reads_what_is_new_in_the_receipts(tmp_path: Path) -> None:
    receipts = tmp_path / "receipts.jsonl"
    news = NewPromises(lambda: [receipts, tmp_path / "none"])
    assert news.endless() == []
    endless = msgspec.json.encode(Promise(1, "e-1", "endless", "starts", runs=("endless:x1",)))
    other = msgspec.json.encode(Promise(2, "e-2", "one", "starts", runs=("one:endless",)))
    receipts.write_bytes(other + b"\n" + endless + b"\n" + endless[:20])
    assert news.endless() == ["endless:x1"]
    assert news.endless() == []
    with receipts.open("ab") as lines:
        lines.write(b"\n" + endless.replace(b"x1", b"x2") + b"\n")  # a killed producer's successor ends the torn line
    assert news.endless() == ["endless:x2"]


def test_a_takeover_is_measured_from_the_death_to_the_next_attempt_elsewhere() -> None:
    effects = [
        line("begin", "one:1", 1, 9.9, "a"),  # under way when its worker died
        line("begin", "one:2", 1, 9.0, "b"),
        line("end", "one:2", 1, 9.5, "b"),  # over before
        line("begin", "one:3", 1, 9.8, "c"),
        line("failed", "one:3", 1, 9.9, "c"),  # over too
        line("begin", "one:1", 2, 11.5, "d"),
        line("begin", "one:3", 2, 12.5, "e", attempt=2),
    ]
    diary = [happened("worker killed", 10, 10, 1)]
    none = Spread.of([])
    assert measures.takeovers(effects, diary, ["worker killed"], set(), 3) == (Spread(1, 1.5, 1.5, 1.5), none)
    assert measures.takeovers(effects, diary, ["server of a site killed"], set(), 3) == (none, none)
    assert measures.takeovers(effects, diary, ["worker killed"], {"one:1"}, 3) == (none, none)


def test_a_run_that_lost_as_many_workers_as_it_may_is_counted_as_a_suspect() -> None:
    effects = [line("begin", "one:1", pid, at_s, f"{pid}") for pid, at_s in ((1, 1), (2, 3), (3, 5), (4, 9))]
    diary = [happened("worker killed", 6, 6, 3)]
    none = Spread.of([])
    assert measures.takeovers(effects, diary, ["worker killed"], set(), 3) == (none, Spread(1, 3, 3, 3))
    assert measures.takeovers(effects, diary, ["worker killed"], set(), 4) == (Spread(1, 3, 3, 3), none)


def test_repeated_and_overlapping_attempts_are_counted() -> None:
    effects = [
        line("begin", "one:1", 1, 1, "a"),
        line("begin", "one:1", 2, 2, "b"),
        line("end", "one:1", 2, 3, "b"),
        line("end", "one:1", 1, 4, "a"),
        line("begin", "one:2", 1, 1, "c"),
        line("failed", "one:2", 1, 2, "c"),
        line("begin", "one:2", 1, 3, "d", attempt=2),  # a retry is no repetition
        line("end", "one:2", 1, 4, "d", attempt=2),
    ]
    assert measures.repeats(effects) == Repeats(attempts=4, repeated=1, overlapping=1)


def test_a_point_is_hit_when_its_process_died_of_it() -> None:
    armed = [
        Armed(1, "commit.before", "exit", 0),
        Armed(2, "commit.before", "kill", 0),
        Armed(3, "commit.before", "kill", 0),  # we killed it ourselves
        Armed(4, "read.woken", "stop", 0),
        Armed(5, "renew.before", "exit", 0),  # lives
    ]
    hit = measures.points_hit(armed, {1: 86, 2: -9, 3: -9}, ours={3}, paused={4: 2})
    assert hit == {("commit.before", "exit"): 1, ("commit.before", "kill"): 1, ("read.woken", "stop"): 2}


def outcome() -> Outcome:
    """A small run that went well."""
    return Outcome(
        scale=Scale(events=100, faults=len(SHARES)),
        version="9.1.2",
        verdict=Verdict((), Counter({"recorded steps": 90, "recorded mail": 40})),
        events=101,
        probes=20,
        runs=60,
        kinds=Counter({"one": 101}),
        faults=Counter(dict.fromkeys(SHARES, 1)),
        points=Counter({("commit.before", "stop"): 2}),
        cuts=Counter({("commit", Cut.AFTER): 1}),
        missed=Counter(),
        letters=Counter(),
        back={"redis killed": Spread(1, 0.1, 0.2, 0.3)},
        back_in_storm={"redis killed": Spread(9, 0.2, 6, 7)},
        takeover={"a whole server killed": Spread(1, 2.0, 2.5, 3.0)},
        suspects={"one worker killed": Spread.of([]), "a whole server killed": Spread(2, 4.0, 7.5, 9.0)},
        repeats=Repeats(95, 5, 1),
        refused=3,
        duplicates=4,
        compared=15,
        work_s=10,
        rest_s=1,
        cancels=2,
        resumed=1,
    )


def test_what_did_not_happen_is_named() -> None:
    good = outcome()
    assert not_exercised(good) == []
    assert not_exercised(replace(good, faults=Counter())) == [f"fault: {kind}" for kind in SHARES]
    assert not_exercised(replace(good, events=99, duplicates=0, repeats=Repeats(95, 0, 0))) == [
        "only 99 of 100 events were acknowledged",
        "no attempt had to be repeated",
        "no duplicate",
    ]
    large = replace(good, scale=replace(good.scale, events=10_000, faults=500), events=10_000, refused=0)
    missing = not_exercised(large)
    assert "point: action.after" in missing
    assert "point: publish.acked" in missing
    assert "lost reply of ingest" in missing
    assert "lost reply of commit" not in missing
    assert "way to die at a point: kill" in missing
    assert "no zombie's commit had to be refused" in missing
    assert "too few steps were recorded" in missing


def test_figures_beyond_the_promise_are_named() -> None:
    good = outcome()
    assert too_slow(good) == []
    slow = replace(good, back={"redis killed": Spread(9, 0.1, 5.1, 6)}, takeover={"x": Spread(1, 1, 1, 3.1)})
    assert too_slow(slow) == [
        "consumption came back only after 5.1 s (p99) when redis killed",
        "taken over only after 3.1 s: x",
    ]


def test_the_tables_stand_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    page.write_text("# Page\n\n<!-- chaos valkey-9.1 -->\nold\n<!-- end of chaos valkey-9.1 -->\n\nbehind\n")
    text = markdown(outcome())
    put_into_page(page, "valkey-9.1", text)
    put_into_page(page, "redis-8.2", "other")
    put_into_page(page, "valkey-9.1", text)
    written = page.read_text()
    assert written.startswith("# Page\n\n<!-- chaos valkey-9.1 -->\n\n### Valkey 9.1.2")
    assert written.count(text) == 1
    assert "\nold\n" not in written
    assert written.endswith("behind\n\n<!-- chaos redis-8.2 -->\n\nother\n\n<!-- end of chaos redis-8.2 -->\n")
    assert "| consumption back: redis killed | 0.10 | 0.20 | 0.30 | 1 |" in text
    assert "| the same in the storm: redis killed | 0.20 | 6.00 | 7.00 | 9 |" in text
    assert "| lost | 0 |" in text
    assert command_of(outcome()) in text


def test_the_document_holds_every_finding() -> None:
    bad = replace(outcome(), verdict=Verdict((Finding("lost", "event e-1"),)))
    assert b'"what": "event e-1"' in document(bad)
    assert "| lost | 1 |" in markdown(bad)
