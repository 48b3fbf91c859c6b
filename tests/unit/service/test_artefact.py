from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.unit.service.test_manifest import FILES, manifest_for
from workflow_worker.model.exceptions import ConfigurationError, NotFound, UsageError
from workflow_worker.service.artefact import OpenedArtefact, cache_folder, open_artefact, write_artefact


def test_an_artefact_is_written_once_read_only_and_unpacked_where_it_can_be_imported(tmp_path: Path) -> None:
    manifest = manifest_for(FILES)
    path = write_artefact(tmp_path / "dist", manifest, FILES)
    assert path.name == manifest.file_name
    assert path.stat().st_mode & 0o777 == 0o444
    again = write_artefact(tmp_path / "dist", manifest, FILES)
    assert (again, list(path.parent.iterdir())) == (path, [path])
    opened = open_artefact(path, tmp_path / "cache")
    assert opened.manifest == manifest
    assert {name: (opened.root / name).read_bytes() for name in FILES} == FILES


def test_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    path = write_artefact(tmp_path, manifest_for(FILES), FILES)
    first = open_artefact(path, tmp_path / "cache")
    (first.root / "shop/flows.py").write_text("raise SystemExit")
    assert open_artefact(path, tmp_path / "cache") == first
    assert (first.root / "shop/flows.py").read_bytes() == FILES["shop/flows.py"]
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [first.root.name]


def test_starts_at_the_same_time_agree(tmp_path: Path) -> None:
    path = write_artefact(tmp_path, manifest_for(FILES), FILES)
    gate, found = threading.Barrier(8), list[OpenedArtefact]()

    def start() -> None:
        gate.wait()
        found.append(open_artefact(path, tmp_path / "cache"))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({str(each.root) for each in found}) == 1


def test_a_missing_and_a_changed_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot read"):
        open_artefact(tmp_path / "none.wwa", tmp_path)
    path = write_artefact(tmp_path, manifest_for(FILES), FILES)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"app = 1", b"app = 2"))
    with pytest.raises(UsageError):
        open_artefact(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "dist").write_text("a file")
    with pytest.raises(ConfigurationError, match="name another folder with -o"):
        write_artefact(tmp_path / "dist", manifest_for(FILES), FILES)


def test_the_cache_follows_the_desktop_rules(tmp_path: Path) -> None:
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "workflow-worker"
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == Path.home() / ".cache" / "workflow-worker"
    assert cache_folder({}) == Path.home() / ".cache" / "workflow-worker"


def test_without_a_home_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(ConfigurationError, match="set XDG_CACHE_HOME"):
        cache_folder({})
    assert cache_folder({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "workflow-worker"
