"""`build` makes one immutable file, `start` runs it from anywhere."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.integration.command import EXAMPLES, Place, wait_for

SHOP = {
    "shop/__init__.py": "",
    "shop/prices.py": """
from pathlib import Path

LINES = Path(__file__).with_name("prices.txt").read_text().split()
""",
    "shop/prices.txt": "7 9",
    "shop/flows.py": """
from dataclasses import dataclass
from workflow_worker import App
from shop.prices import LINES

app = App("shop")

@app.event("sale", subject="id")
@dataclass(frozen=True)
class Sale:
    id: str

@app.action
async def price() -> str:
    return "+".join(LINES)

@app.workflow(on=Sale, id="sale-{id}", version=3)
async def sell(sale: Sale) -> str:
    return await price()
""",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_file_says_what_is_in_it_and_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    place = Place(tmp_path)
    first = place.ask("build", str(EXAMPLES / "orders.py"))
    path = tmp_path / first["path"]
    manifest = first["manifest"]
    assert path == tmp_path / "dist" / f"orders-{manifest['code_hash'][:12]}.wwa"
    assert path.stat().st_mode & 0o222 == 0
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("manifest.json")) == manifest
        assert "code/orders.py" in archive.namelist()
    assert (manifest["app"], manifest["entry"]) == ("orders", "orders:app")
    assert manifest["workflows"] == [{"name": "fulfil", "version": 1}]
    assert manifest["actions"] == ["charge", "reserve_stock", "ship"]
    assert manifest["events"] == ["order.placed"]
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(EXAMPLES / "orders.py", moved)
    second = Place(moved).ask("build", "orders.py", "-o", "out")
    assert (moved / second["path"]).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["shop.flows:app", "shop/flows.py", "shop/flows.py:app"])
def test_a_package_with_data_is_built_however_it_is_named(tmp_path: Path, name: str) -> None:
    place = Place(write(tmp_path, SHOP))
    built = place.ask("build", name, "--include", "shop/*.txt")
    with zipfile.ZipFile(tmp_path / built["path"]) as archive:
        assert sorted(archive.namelist()) == ["code/" + name for name in sorted(SHOP)] + ["manifest.json"]
    assert built["manifest"]["entry"] == "shop.flows:app"


def test_what_was_built_runs_from_another_folder_without_its_sources(tmp_path: Path) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    other.mkdir()
    cache = str(tmp_path / "cache")
    built = Place(write(source, SHOP)).ask("build", "shop.flows:app", "--include", "shop/*.txt")
    artefact = other / "shop.wwa"
    shutil.move(source / built["path"], artefact)
    shutil.rmtree(source)
    place = Place(other, {"WORKER_COUNT": "1", "XDG_CACHE_HOME": cache})
    with place.start("start", "shop.wwa"):
        place.ask("publish", "sale", "--subject", "s-1", "--data", '{"id": "s-1"}')
        wait_for(lambda: place.run("runs", "show", "sale-s-1").code == 0, "the run exists")
        wait_for(lambda: place.ask("runs", "show", "sale-s-1")["status"] == "completed", "the sale is done")
        run = place.ask("runs", "show", "sale-s-1")
        assert (run["result"], run["version"]) == ("7+9", 3)


def test_a_changed_file_is_refused_in_one_line(tmp_path: Path) -> None:
    place = Place(write(tmp_path, SHOP))
    path = tmp_path / place.ask("build", "shop.flows:app", "--include", "shop/*.txt")["path"]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"7 9", b"0 0"))
    answer = place.run("start", str(path))
    assert answer.code == 2
    assert "changed after it was built" in answer.err
    assert len(answer.err.splitlines()) == 1


def test_an_app_with_errors_is_not_built(tmp_path: Path) -> None:
    files = SHOP | {
        "shop/flows.py": SHOP["shop/flows.py"].replace("return await price()", "import time; time.sleep(1)")
    }
    place = Place(write(tmp_path, files))
    checked = place.run("check", "shop.flows:app")
    assert checked.code == 1
    assert "time.sleep" in checked.out
    answer = place.run("build", "shop.flows:app")
    assert answer.code == 1
    assert not (tmp_path / "dist").exists()
