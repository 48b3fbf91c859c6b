"""The peers: versions, programs, and what happens when one cannot be installed."""

from __future__ import annotations

import re
from pathlib import Path

import bench.environments
import pytest
from bench.contestants import Workload
from bench.environments import NotInstalled, prepared
from bench.peers.registry import PEERS
from bench.peers.versions import VERSIONS, Packages

HOME = Path("/nowhere")


def test_the_table_of_versions_and_the_registry_name_the_same_peers() -> None:
    assert set(VERSIONS) == set(PEERS)


@pytest.mark.parametrize("name", VERSIONS)
def test_every_version_is_exact(name: str) -> None:
    packages = VERSIONS[name]
    assert packages.python or packages.node
    for package in packages.python:
        assert re.fullmatch(r"[a-z0-9-]+(\[[a-z]+\])?==\d+(\.\d+)+", package)
    for package in packages.node:
        assert re.fullmatch(r"(@[a-z]+/)?[a-z-]+@\d+(\.\d+)+", package)


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_has_a_program_and_says_what_it_lacks(name: str) -> None:
    contestant = PEERS[name].installed_in(HOME)
    last = contestant.program[-1]
    path = Path(last) if last.endswith(".js") else Path(*last.split(".")).with_suffix(".py")
    assert path.is_file()
    assert contestant.lacks
    assert contestant.settings
    assert re.fullmatch(r"[a-z-]+ \d+(\.\d+)+(, [a-z-]+ \d+(\.\d+)+)?", contestant.title)


@pytest.mark.parametrize("name", PEERS)
def test_a_queue_has_workers_and_an_engine_does_all_in_its_program(name: str) -> None:
    contestant = PEERS[name].installed_in(HOME)
    assert (contestant.workers is None) == (contestant.workloads == {Workload.ENGINE})
    if contestant.workers is not None:
        arguments, _ = contestant.workers(2, "redis://127.0.0.1:1/0")
        assert "2" in arguments


def test_a_program_that_the_machine_lacks_is_a_reason_not_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VERSIONS, "arq", Packages(("arq==1.0",), programs=("no-such-program-here",)))
    with pytest.raises(NotInstalled, match="no program 'no-such-program-here' on this machine"):
        prepared(PEERS["arq"])


def test_an_installation_that_fails_is_a_reason_and_leaves_no_stamp(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench.environments, "FOLDER", tmp_path)
    monkeypatch.setitem(VERSIONS, "arq", Packages(("not a requirement",)))
    with pytest.raises(NotInstalled, match=r"(?i)invalid requirement|not a requirement"):
        prepared(PEERS["arq"])
    assert not (tmp_path / "arq" / ".packages").exists()
