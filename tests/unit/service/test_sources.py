from __future__ import annotations

from pathlib import Path

import pytest

from workflow_worker.model.exceptions import UsageError
from workflow_worker.service.sources import collect, importable_as, watched_folder


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(root: Path, file: str, *include: str) -> list[str]:
    return list(collect(root / file, include).files)


def test_a_file_alone_takes_no_neighbour_along(tmp_path: Path) -> None:
    write(tmp_path, {"orders.py": "import json, asyncio\n", "other.py": "", ".venv/x.py": ""})
    found = collect(tmp_path / "orders.py")
    assert (found.module, list(found.files)) == ("orders", ["orders.py"])


def test_a_file_takes_along_what_it_imports_from_beside_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "orders.py": "import prices\nfrom shared import money\nfrom names.space import deep\n",
            "prices.py": "import rates",
            "rates.py": "import prices",
            "shared/__init__.py": "",
            "shared/money.py": "",
            "shared/unused_but_ours.py": "",
            "names/space/deep.py": "",
            "names/space/apart.py": "",
            "stranger.py": "",
        },
    )
    assert names(tmp_path, "orders.py") == [
        "names/space/deep.py",
        "orders.py",
        "prices.py",
        "rates.py",
        "shared/__init__.py",
        "shared/money.py",
        "shared/unused_but_ours.py",
    ]


def test_a_module_of_a_package_takes_the_whole_top_package(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "shop/__init__.py": "",
            "shop/web/__init__.py": "",
            "shop/web/flows.py": "from ..prices import x\nfrom . import y\nimport beside",
            "shop/prices.py": "",
            "shop/__pycache__/old.py": "",
            "shop/.hidden/x.py": "",
            "beside.py": "",
        },
    )
    found = collect(tmp_path / "shop/web/flows.py")
    assert found.module == "shop.web.flows"
    assert found.root == tmp_path.resolve()
    assert list(found.files) == [
        "beside.py", "shop/__init__.py", "shop/prices.py", "shop/web/__init__.py", "shop/web/flows.py"
    ]  # fmt: skip


def test_declared_data_comes_along_and_a_pattern_for_nothing_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "", "mails/a.txt": "a", "mails/b/c.txt": "c"})
    assert names(tmp_path, "app.py", "mails/**/*.txt") == ["app.py", "mails/a.txt", "mails/b/c.txt"]
    with pytest.raises(UsageError, match="matches no file"):
        collect(tmp_path / "app.py", ["*.csv"])


def test_a_syntax_error_is_named_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, {"app.py": "import broken\n", "broken.py": "x = 1\ndef f(:\n"})
    with pytest.raises(UsageError, match=r"broken\.py:2 cannot be parsed"):
        collect(tmp_path / "app.py")


def test_we_are_no_part_of_an_app(tmp_path: Path) -> None:
    write(
        tmp_path, {"workflow_worker/__init__.py": "", "workflow_worker/x.py": "", "app.py": "import workflow_worker.x"}
    )
    assert names(tmp_path, "app.py") == ["app.py"]
    with pytest.raises(UsageError, match="part of workflow-worker itself"):
        collect(tmp_path / "workflow_worker/x.py")


def test_a_packages_init_is_the_package(tmp_path: Path) -> None:
    write(tmp_path, {"shop/__init__.py": ""})
    assert importable_as(tmp_path / "shop/__init__.py") == (tmp_path.resolve(), "shop")


def test_a_save_is_noticed_wherever_the_app_may_import_from(tmp_path: Path) -> None:
    write(tmp_path, {"orders.py": "", "shop/__init__.py": "", "shop/flows/__init__.py": "", "shop/flows/sale.py": ""})
    assert watched_folder(tmp_path / "orders.py") == tmp_path.resolve()
    assert watched_folder(tmp_path / "shop/flows/sale.py") == tmp_path.resolve()
    installed = Path(pytest.__file__)
    assert watched_folder(installed) == installed.parent.resolve()
