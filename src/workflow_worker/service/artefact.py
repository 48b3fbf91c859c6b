"""Artefacts on disk: written once by `build`, verified and unpacked by `start`.

The bytes are `manifest.py`'s, the choice of files is `sources.py`'s; here is what touches the file system.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workflow_worker.model.exceptions import ConfigurationError, NotFound
from workflow_worker.service.manifest import SUFFIX, Manifest, code_hash_of, pack, unpack


@dataclass(frozen=True, slots=True)
class OpenedArtefact:
    """`root` is the folder from which `manifest.entry` can be imported."""

    manifest: Manifest
    root: Path


def is_artefact(name: str) -> bool:
    """Tell whether this names an artefact rather than an app's module or source file."""
    return name.endswith(SUFFIX)


def write_artefact(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Write an artefact under its own name, whole or not at all, read-only; the same one again changes nothing.

    Raises:
        ConfigurationError: The folder cannot be made or written.
    """
    target = folder / manifest.file_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=folder, prefix=".build-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(pack(manifest, files))
            Path(draft).chmod(0o444)
            Path(draft).replace(target)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigurationError(f"cannot write {target}: {error.strerror}; name another folder with -o") from error
    return target


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where artefacts are unpacked: ``$XDG_CACHE_HOME/workflow-worker``, else ``~/.cache/workflow-worker``.

    https://specifications.freedesktop.org/basedir-spec/latest/

    Raises:
        ConfigurationError: Neither is known: a container may run as a user without a home.
    """
    base = environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "workflow-worker"
    except RuntimeError as error:
        raise ConfigurationError(
            "this user has no home folder to unpack into: set XDG_CACHE_HOME to a folder that can be written"
        ) from error


def open_artefact(path: Path, cache: Path) -> OpenedArtefact:
    """Verify an artefact and unpack it below `cache`, where a second start finds it; its content is verified again.

    Raises:
        NotFound: There is no such file.
        UsageError: It is no artefact, or was changed after it was built.
        ConfigurationError: The cache folder cannot be written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}; build it with `workflow-worker build`") from error
    manifest, files = unpack(str(path), content)
    root = cache / f"{manifest.app}-{manifest.code_hash}"
    try:
        if not _holds(root, files, manifest.code_hash):
            with _only_one(root):
                if not _holds(root, files, manifest.code_hash):  # else a start at the same time was faster
                    _unpack_into(root, files)
    except OSError as error:
        raise ConfigurationError(
            f"cannot unpack into {root}: {error.strerror}; set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return OpenedArtefact(manifest, root)


def _holds(root: Path, files: Mapping[str, bytes], code_hash: str) -> bool:
    try:
        return code_hash_of({name: (root / name).read_bytes() for name in files}) == code_hash
    except OSError:
        return False


@contextmanager
def _only_one(root: Path) -> Generator[None]:
    """Among all starts on this machine one unpacks at a time; the cache folder itself is the lock."""
    root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = os.open(root.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _unpack_into(root: Path, files: Mapping[str, bytes]) -> None:
    draft = Path(tempfile.mkdtemp(dir=root.parent, prefix=".unpack-"))
    damaged = draft.with_name(f"{draft.name}.old")
    try:
        for name, content in files.items():
            file = draft / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if root.exists():
            root.rename(damaged)
        draft.rename(root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)
