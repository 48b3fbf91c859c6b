"""Import the author's app by name."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from workflow_worker.app.registry import App
from workflow_worker.model.exceptions import UsageError
from workflow_worker.service.sources import importable_as

_ATTRIBUTE = "app"
_FORM = "write package.module[:attribute] or path/file.py[:attribute]"


@dataclass(frozen=True, slots=True)
class LoadedApp:
    """An app, the source file of the module that defines it, and the module's attribute that holds it."""

    app: App
    file: Path
    attribute: str


def split_app_name(name: str) -> tuple[str, str]:
    """Module or path, and attribute (``app`` by default).

    Raises:
        UsageError: There is nothing before the colon, or no identifier after it.
    """
    target, _, attribute = name.rpartition(":") if ":" in name else (name, "", _ATTRIBUTE)
    if not target or not attribute.isidentifier():
        raise UsageError(f"{name!r} does not name an app: {_FORM}")
    return target, attribute


def app_file(name: str) -> Path:
    """The source file that an app's name leads to, found without running the author's code.

    Raises:
        UsageError: There is no such file or module.
    """
    target, _ = split_app_name(name)
    if _is_path(target):
        path = Path(target).resolve()
        if not path.is_file():
            raise UsageError(f"there is no file {target}: {_FORM}")
        return path
    file: Path | None = None
    folders = [Path(entry or ".") for entry in sys.path]
    for part in target.split("."):
        # By hand, because find_spec() of a dotted name imports the packages above it.
        file = next((found for folder in folders for found in _candidates(folder / part) if found.is_file()), None)
        if file is None:
            break
        folders = [file.parent]
    if file is None:
        raise UsageError(f"there is no module {target!r} in this folder or the environment: {_FORM}")
    return file.resolve()


def load_app(name: str, folder: Path | None = None) -> LoadedApp:
    """Import the module and take the app out of it.

    What comes first in ``sys.path`` is, for a file, the folder from which it can be imported: its own, or the one that
    holds its package, so that neighbours and relative imports are found; for a module it is `folder`, by default the
    working folder.

    Raises:
        UsageError: There is no such file, module or attribute, the attribute is no `App`, or the author's code raised
            while it was imported (that error is its ``__cause__``).
    """
    target, attribute = split_app_name(name)
    if _is_path(target):
        path = app_file(name)
        root, dotted = importable_as(path)
        module = _import(dotted, name, root)
        if Path(module.__file__ or "").resolve() != path:
            raise UsageError(f"{target} cannot be imported as {dotted!r}: that name belongs to {module.__file__}")
    else:
        module = _import(target, name, (folder or Path()).resolve())
    found = getattr(module, attribute, None)
    if not isinstance(found, App):
        what = f"is {type(found).__name__}, not an App" if hasattr(module, attribute) else "does not exist"
        others = [each for each, value in vars(module).items() if isinstance(value, App)]
        hint = f"; did you mean {target}:{others[0]}?" if others else f"; write {attribute} = App(…) there"
        raise UsageError(f"{target}:{attribute} {what}{hint}")
    return LoadedApp(found, Path(module.__file__ or target).resolve(), attribute)


def _is_path(target: str) -> bool:
    return target.endswith(".py") or "/" in target


def _candidates(stem: Path) -> tuple[Path, Path]:
    return stem / "__init__.py", stem.with_name(f"{stem.name}.py")


def _import(module: str, name: str, folder: Path) -> ModuleType:
    if str(folder) not in sys.path[:1]:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module {error.name!r} in {folder} or the environment: {_FORM}") from error
        raise UsageError(f"importing {name} failed: {type(error).__name__}: {error}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"importing {name} failed: {type(error).__name__}: {error}") from error
