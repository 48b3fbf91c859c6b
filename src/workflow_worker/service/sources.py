"""Which files belong to an app: its module, its package, and what these import from beside them."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow_worker.model.exceptions import UsageError

_OURSELVES = "workflow_worker"


@dataclass(frozen=True, slots=True)
class Sources:
    """`module` can be imported from `root`; `files` maps paths below `root` (with ``/``) to contents."""

    root: Path
    module: str
    files: dict[str, bytes]


def importable_as(file: Path) -> tuple[Path, str]:
    """The folder from which a Python file can be imported, and under which dotted name.

    The folder is the first one upwards that is not a package (has no ``__init__.py``).
    """
    file = file.resolve()
    parts = [] if file.name == "__init__.py" else [file.stem]
    root = file.parent
    while (root / "__init__.py").is_file():
        parts.append(root.name)
        root = root.parent
    return root, ".".join(reversed(parts))


def watched_folder(file: Path) -> Path:
    """The folder below which a saved file may belong to the app that `file` defines.

    That is where it is imported from, because it can import everything there; of an installed app, its own folder.
    """
    root, _ = importable_as(file)
    return file.resolve().parent if _is_for_packages(root) else root


def collect(file: Path, include: Sequence[str] = ()) -> Sources:
    """Find the sources of the app that `file` defines.

    These are: the file, or its whole top package; every module and package beside it that these import, directly or
    not; and what the patterns in `include` match below the same folder. What is installed as a dependency is not
    part of an app, and neither are we.

    Raises:
        UsageError: A file cannot be parsed, or a pattern matches nothing.
    """
    root, module = importable_as(file)
    if module.partition(".")[0] == _OURSELVES:
        raise UsageError(f"{file} is part of workflow-worker itself: name a file or package of your own")
    files: set[Path] = set(_module_files(root, module))
    waiting = list(files)
    while waiting and not _is_for_packages(root):
        for name in _imports(root, waiting.pop()):
            new = set(_module_files(root, name)) - files
            files |= new
            waiting += new
    for pattern in include:
        matched = {path for path in root.glob(pattern) if path.is_file() and "__pycache__" not in path.parts}
        if not matched:
            raise UsageError(f"--include {pattern!r} matches no file below {root}")
        files |= matched
    return Sources(root, module, {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(files)})


def _module_files(root: Path, name: str) -> Iterator[Path]:
    """The files behind an imported name: all Python files of its top package, or the one file of a plain module."""
    top, *rest = name.split(".")
    if top == _OURSELVES or not top:
        return
    if (root / top / "__init__.py").is_file():
        yield from (path for path in (root / top).rglob("*.py") if _is_source(path.relative_to(root)))
        return
    # A plain module, or one in folders without __init__.py (PEP 420); `from a import b` names b, module or not.
    for length in range(len(rest) + 1):
        stem = root.joinpath(top, *rest[:length])
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                yield path


def _is_for_packages(root: Path) -> bool:
    return root in {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}


def _is_source(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _imports(root: Path, file: Path) -> Iterator[str]:
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise UsageError(f"{file}:{line} cannot be parsed: {error}") from error
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*above, *([node.module] if node.module else [])))
            yield stem
            yield from (f"{stem}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*")
