"""Drawn sequences of transitions give equal outcomes and equal views on the memory machine and on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from tests.contract.conftest import Servers
from tests.contract.pairs import Pair
from tests.contract.sequences import Piece, seeded, sequences
from tests.support.servers import SERVERS

_QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.fixture(params=[server.name for server in SERVERS])
def pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Pair]:
    """Both stores of one test, on one event loop."""
    with asyncio.Runner() as runner:
        made = Pair(servers.get(request.param), runner)
        yield made
        made.close()


@settings(max_examples=60, deadline=None, suppress_health_check=_QUIET)
@given(operations=sequences())
def test_memory_and_server_agree(pair: Pair, operations: Piece) -> None:
    pair.compare(operations)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@settings(max_examples=2_000, deadline=None, suppress_health_check=_QUIET)
@given(operations=sequences())
def test_memory_and_server_agree_for_long(pair: Pair, operations: Piece) -> None:
    pair.compare(operations)


def test_memory_and_server_agree_on_seeds(pair: Pair) -> None:
    for seed in range(200):
        _compare_seed(pair, seed)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_memory_and_server_agree_on_many_seeds(pair: Pair) -> None:
    for seed in range(1_000, 21_000):
        _compare_seed(pair, seed)


def _compare_seed(pair: Pair, seed: int) -> None:
    try:
        pair.compare(seeded(seed))
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
