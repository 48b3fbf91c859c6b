"""Level 2: the same worlds on real servers. The scripts answer as the machine does, step by step, whatever fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.simulation.real_server import Reality
from tests.simulation.world import Outcome, simulate
from tests.support.servers import SERVERS, RunningServer, server_binary

NAMES = ("valkey-9.1", "redis-8.2")
OLDER = tuple(server.name for server in SERVERS if server.name not in NAMES)
KINDS = pytest.mark.parametrize("dense", [False, True], ids=["plain", "dense"])

CHUNK = 25
SEEDS = 50
"""Of each kind on each server in the normal suite: 200 in all."""

CHAOS_CHUNK = 125
CHAOS_SEEDS = 1_250
"""Of each kind on each server: 5,000 in all."""

LEAST = {
    "events": 1_500,
    "commit ok": 2_000,
    "commit fenced": 3,
    "commit mail": 50,
    "commit again": 3,
    "takeovers": 50,
    "requests lost": 100,
    "replies lost": 15,
    "requests late": 15,
    "scripts lost": 10,
    "cut inside a verb": 30,
    "refused for memory": 30,
    "publishes refused": 10,
    "failovers": 10,
    "fault kill": 8,
    "fault pause": 8,
    "fault loop pause": 8,
    "fault outage": 8,
    "fault clock": 8,
    "fault drain": 8,
    "fault memory": 8,
    "ingests again": 3,
    "early": 30,
    "claimed": 20,
    "unclaimed": 10,
    "duplicate": 50,
    "dead": 100,
    "redrive": 10,
    "rounds": 20,
    "runs purged": 100,
    "cache hits": 100,
    "cancel": 3,
    "resume": 10,
    "looks at both": 100,
}
"""What 25 seeds must have exercised."""


@pytest.fixture(scope="module", params=NAMES)
def reality(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reality]:
    """A real server for all worlds of this module, one after the other; others than those by indirect parameters."""
    name = str(request.param)
    with RunningServer(server_binary(name), tmp_path_factory.mktemp(name)) as server:
        made = Reality(server.socket_path, name)
        yield made
        made.close()


def replay(outcome: Outcome, reality: Reality, *, dense: bool) -> str:
    """What happened, and how to see a broken seed again."""
    command = f"python -m tests.simulation --level 2 --server {reality.name} --seed {outcome.seed}{' --dense' * dense}"
    return f"seed {outcome.seed}: {outcome.violation}\n{outcome.story}\nreplay: {command}"


def run_seeds(first: int, count: int, reality: Reality, *, dense: bool) -> Counter[str]:
    """Simulate so many seeds; what they exercised."""
    counts = Counter[str]()
    for seed in range(first, first + count):
        outcome = simulate(seed, dense=dense, reality=reality)
        assert not outcome.violation, replay(outcome, reality, dense=dense)
        counts.update(outcome.counts)
    return counts


def scarce(counts: Counter[str], *, dense: bool) -> dict[str, int]:
    """What was exercised too little."""
    found = {name: counts[name] for name, least in LEAST.items() if counts[name] < least}
    return found | ({"failovers aimed": counts["failovers aimed"]} if dense and counts["failovers aimed"] < 10 else {})


@pytest.mark.timeout(240)
@KINDS
@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_the_scripts_do_what_the_machine_does(first: int, dense: bool, reality: Reality) -> None:
    counts = run_seeds(first, CHUNK, reality, dense=dense)
    assert not scarce(counts, dense=dense), f"not exercised enough: {scarce(counts, dense=dense)}"


@KINDS
def test_the_same_seed_gives_the_same_trace(dense: bool, reality: Reality) -> None:
    once, again = (simulate(7, dense=dense, reality=reality) for _ in range(2))
    assert (once.trace, once.counts) == (again.trace, again.counts)
    assert once.trace != simulate(8, dense=dense, reality=reality).trace


@pytest.mark.chaos
@pytest.mark.timeout(600)
@KINDS
@pytest.mark.parametrize("first", range(200_000, 200_000 + CHAOS_SEEDS, CHAOS_CHUNK))
def test_five_thousand_worlds(first: int, dense: bool, reality: Reality) -> None:
    run_seeds(first, CHAOS_CHUNK, reality, dense=dense)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@KINDS
@pytest.mark.parametrize("reality", OLDER, indirect=True)
def test_older_servers_do_it_too(dense: bool, reality: Reality) -> None:
    run_seeds(300_000, CHAOS_CHUNK, reality, dense=dense)
