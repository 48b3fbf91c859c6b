"""Apps by name: found, or refused with what to write instead."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workflow_worker.model.exceptions import UsageError
from workflow_worker.service.cores import usable_cores
from workflow_worker.service.loader import app_file, load_app, split_app_name

APP = "from workflow_worker import App\nimport beside_loader\napp = App('one')\nother = App('two')\nnumber = 7\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a file of that app, its neighbour, and a package with the same."""
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside_loader.py").write_text("")
    (tmp_path / "shop_loader.py").write_text(APP)
    (tmp_path / "pack_loader").mkdir()
    (tmp_path / "pack_loader" / "__init__.py").write_text("")
    (tmp_path / "pack_loader" / "flows.py").write_text(APP)
    (tmp_path / "pack_loader" / "deep").mkdir()
    (tmp_path / "pack_loader" / "deep" / "__init__.py").write_text("from ..flows import app, other")
    (tmp_path / "pack_loader" / "deep" / "relative.py").write_text("from . import app\nfrom ..flows import other\n")
    yield tmp_path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a.b", ("a.b", "app")), ("a.b:c", ("a.b", "c")), ("x/y.py", ("x/y.py", "app")), ("./y.py:z", ("./y.py", "z"))],
)
def test_split(name: str, parts: tuple[str, str]) -> None:
    assert split_app_name(name) == parts


@pytest.mark.parametrize("name", ["", ":app", "a:", "a:b.c", "a:1"])
def test_no_name_of_an_app(name: str) -> None:
    with pytest.raises(UsageError, match=r"package\.module"):
        split_app_name(name)


@pytest.mark.parametrize(
    ("name", "app", "file"),
    [
        ("shop_loader.py", "one", "shop_loader.py"),
        ("./shop_loader.py:other", "two", "shop_loader.py"),
        ("shop_loader", "one", "shop_loader.py"),
        ("pack_loader.flows:other", "two", "pack_loader/flows.py"),
        ("pack_loader/flows.py:other", "two", "pack_loader/flows.py"),
        ("pack_loader/deep/relative.py", "one", "pack_loader/deep/relative.py"),
        ("pack_loader/deep/__init__.py:other", "two", "pack_loader/deep/__init__.py"),
    ],
)
def test_load(shop: Path, name: str, app: str, file: str) -> None:
    loaded = load_app(name)
    assert (loaded.app.name, loaded.file) == (app, (shop / file).resolve())
    assert app_file(name) == loaded.file


def test_a_file_of_a_package_has_one_name_however_it_is_reached(shop: Path) -> None:
    by_path, by_name = load_app("pack_loader/flows.py"), load_app("pack_loader.flows")
    assert by_path.app is by_name.app
    assert "flows" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing_loader.py", "there is no file missing_loader.py"),
        ("missing_loader.flows", "there is no module 'missing_loader'"),
        ("shop_loader:number", "is int, not an App"),
        ("shop_loader:nothing", "does not exist; did you mean shop_loader:app"),
    ],
)
def test_not_loaded(shop: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_app(name)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_thing_loader", "ModuleNotFoundError: No module named 'no_such_thing_loader'"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_an_error_of_the_authors(shop: Path, code: str, message: str) -> None:
    (shop / "bad_loader.py").write_text(code)
    with pytest.raises(UsageError, match=f"importing bad_loader.py failed: {message}") as refused:
        load_app("bad_loader.py")
    assert refused.value.__cause__ is not None


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
)
def test_usable_cores(tmp_path: Path, files: dict[str, str], cores: int | None) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == (cores or usable_cores(tmp_path / "nowhere"))
