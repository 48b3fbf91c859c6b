"""Every mutant of the scripts turns the contract suite or the differential test red."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from types import ModuleType
from typing import Any

import pytest

from tests.contract import (
    test_arrivals,
    test_bounds,
    test_continuing,
    test_loading,
    test_memory,
    test_operations,
    test_progress,
    test_rules,
    test_stream_ids,
    test_wrong_types,
)
from tests.contract.conftest import Servers, redis_actor
from tests.contract.mutants import MUTANTS, Mutant, living
from tests.contract.pairs import Pair
from tests.contract.sequences import seeded
from tests.support.servers import RunningServer

FAST = frozenset(
    {
        *("owner and token unchecked", "base unchecked", "mail rule off", "named mail unchecked", "ready twice"),
        *("one entry too few trimmed", "one entry too many trimmed", "early out of order", "hand back keeps its token"),
        *("reaping leaves the owner", "seen skipped", "via ignored", "emits not skipped", "cancel twice"),
        *("takeovers not counted", "no restart after a rejected start", "a release with new mail is one"),
        *("early copies repeated by a wait", "early copies repeated at the start", "tokens forget the highest"),
    }
)
SEEDS = 400
EQUIVALENT = {
    "wakes of held runs": "no transition leaves a wake beside a holder or a ready entry; the audit would name it",
    "an end stays with its subject": "the general way, through the packed list, comes to the same, only slower",
}
"""Mutants that no test can tell from the original, with the reason."""

BY_WALKS = FAST - {"ready twice", "tokens forget the highest"}
"""Workers of the walks know every workflow, and then a ready run is leased before any event is read. Two runs have one
token only where the clock stands or goes back, which a walk's seldom does: the contract has a test of it."""

Check = Callable[[RunningServer], Coroutine[Any, Any, None]]


def _examples(module: ModuleType) -> list[Check]:
    """The tests of a module that take an actor or a server, and what they are parametrized with, as checks."""
    found: list[Check] = []
    for name, test in vars(module).items():
        parameters = [*inspect.signature(test).parameters] if name.startswith("test_") else []
        if parameters[:1] == ["actor"]:
            found += [_with_actor(functools.partial(test, **case)) for case in _cases(test)]
        elif parameters[:1] == ["server"]:
            found += [functools.partial(test, **case) for case in _cases(test)]
    return found


def _with_actor(test: Callable[[Any], Awaitable[None]]) -> Check:
    async def check(server: RunningServer) -> None:
        async with redis_actor(server) as actor:
            await test(actor)
            audit = await actor.store.audit()
            assert audit.balanced, audit.problems

    return check


def _cases(test: Any) -> list[dict[str, Any]]:
    """What each run of a parametrized test is given."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    if not marks:
        return [{}]
    names, values = marks[0].args
    if isinstance(names, str):
        return [{names: value} for value in values]
    return [dict(zip(names, each, strict=True)) for each in values]


MODULES = (
    *(test_rules, test_progress, test_arrivals, test_operations, test_continuing, test_bounds, test_wrong_types),
    *(test_stream_ids, test_memory, test_loading),
)
CHECKS = [check for module in MODULES for check in _examples(module)]


def killed_by_contract(server: RunningServer) -> bool:
    """Whether a test of the contract suite fails on the scripts that live now."""
    with asyncio.Runner() as runner:
        for check in CHECKS:
            try:
                runner.run(check(server))
            except (Exception, pytest.fail.Exception):  # noqa: BLE001 - any failure is the answer
                return True
    return False


def killed_by_walks(server: RunningServer, seeds: int) -> bool:
    """Whether one of so many sequences tells the mutant from the machine."""
    with asyncio.Runner() as runner:
        pair = Pair(server, runner)
        try:
            for seed in range(seeds):
                pair.compare(seeded(seed))
        except Exception:  # noqa: BLE001 - any failure is the answer
            return True
        finally:
            pair.close()
    return False


def test_names_are_unlike_and_known() -> None:
    names = {mutant.name for mutant in MUTANTS}
    assert len(names) == len(MUTANTS) >= 15
    assert FAST | EQUIVALENT.keys() <= names


def test_the_original_lives(servers: Servers) -> None:
    """Else a kill would say nothing."""
    server = servers.get("valkey-9.1")
    assert not killed_by_contract(server)
    assert not killed_by_walks(server, SEEDS)


@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.name in FAST], ids=lambda each: each.name)
def test_the_contract_kills(mutant: Mutant, servers: Servers) -> None:
    with living(mutant):
        assert killed_by_contract(servers.get("valkey-9.1"))


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_the_original_lives_as_long_as_any_mutant(servers: Servers) -> None:
    assert not killed_by_walks(servers.get("valkey-9.1"), 5 * SEEDS)


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_the_contract_or_the_walks_kill(mutant: Mutant, servers: Servers) -> None:
    server = servers.get("valkey-9.1")
    with living(mutant):
        killed = killed_by_contract(server) or killed_by_walks(server, 5 * SEEDS)
    assert killed != (mutant.name in EQUIVALENT), EQUIVALENT.get(mutant.name, "nothing noticed it")


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.name in BY_WALKS], ids=lambda each: each.name)
def test_the_walks_alone_kill(mutant: Mutant, servers: Servers) -> None:
    with living(mutant):
        assert killed_by_walks(servers.get("valkey-9.1"), 5 * SEEDS)
