"""Notice that the author has saved a file, and have Python notice it too."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from watchfiles import PythonFilter, awatch  # pyright: ignore[reportUnknownVariableType] - anyio's Event is optional

_DEBOUNCE_MS = 50
_STEP_MS = 20


async def saved_files(folder: Path) -> AsyncIterator[tuple[str, ...]]:
    """Python files below `folder` that were changed, added or deleted, some ms after the last of a burst of saves.

    Folders that hold no code of the author's (``.venv``, ``.git``, ``__pycache__`` and the like) do not count.
    """
    async for changes in awatch(
        folder, watch_filter=PythonFilter(), debounce=_DEBOUNCE_MS, step=_STEP_MS, ignore_permission_denied=True
    ):
        yield tuple(sorted({str(Path(path)) for _, path in changes}))


def forget_bytecode(files: Iterable[str]) -> None:
    """Delete the compiled form of saved files.

    Python trusts it while size and *second* of the source are as they were: of two saves within a second that change
    `1` to `2`, the second would not be seen. https://docs.python.org/3/reference/import.html#pyc-invalidation
    """
    for file in files:
        with contextlib.suppress(OSError):
            Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)
