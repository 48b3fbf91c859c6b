"""What an artefact says about itself, its code hash and its bytes. Pure: files in, bytes out, and back."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import PurePosixPath

import msgspec

from workflow_worker.model.exceptions import UsageError

SUFFIX = ".wwa"
"""File name suffix of an artefact."""

MANIFEST_NAME = "manifest.json"
_CODE = "code/"
_FORMAT = 1
_FIRST_ZIP_YEAR = (1980, 1, 1, 0, 0, 0)
_LARGEST_BYTES = 256 * 1024 * 1024


class WorkflowEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One workflow that the artefact can execute."""

    name: str
    version: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of ``manifest.json``: everything that may be asked of an artefact without running its code.

    `entry` is ``module:attribute`` of the app below the artefact's code folder, `code_hash` the SHA-256 of the files
    (`code_hash_of`), `release` the release of workflow-worker that built it and `python` the version it was built
    with. There is no build time in it: equal input gives equal bytes.
    """

    app: str
    entry: str
    workflows: tuple[WorkflowEntry, ...]
    actions: tuple[str, ...]
    events: tuple[str, ...]
    code_hash: str
    release: str
    python: str
    format: int = _FORMAT

    @property
    def file_name(self) -> str:
        """``<app>-<first 12 digits of the hash>.wwa``."""
        return f"{self.app}-{self.code_hash[:12]}{SUFFIX}"


def code_hash_of(files: Mapping[str, bytes]) -> str:
    """SHA-256 (hex) over the sorted paths and contents; lengths go in too, so that no two file sets look alike."""
    digest = hashlib.sha256()
    for path in sorted(files):
        for part in (path.encode(), files[path]):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def pack(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """The artefact's bytes: an uncompressed zip in sorted order with fixed times, the same wherever it is made."""
    target = io.BytesIO()
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, MANIFEST_NAME, text)
        for path in sorted(files):
            _add(archive, _CODE + path, files[path])
    return target.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _FIRST_ZIP_YEAR)
    info.create_system = 3  # Unix, also where it is built elsewhere
    info.external_attr = 0o100644 << 16
    archive.writestr(info, content)


def unpack(name: str, content: bytes) -> tuple[Manifest, dict[str, bytes]]:
    """Read an artefact's bytes; `name` is for the messages.

    Raises:
        UsageError: This is no artefact, or one of a newer format, or its files are not those that the hash was
            made from, or one would land outside its folder.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(info.file_size for info in archive.infolist()) > _LARGEST_BYTES:
                raise UsageError(f"{name} is larger than {_LARGEST_BYTES} bytes unpacked; build it from fewer files")
            manifest = msgspec.json.decode(archive.read(MANIFEST_NAME), type=Manifest)
            files = {
                info.filename.removeprefix(_CODE): _content(name, archive, info)
                for info in archive.infolist()
                if info.filename.startswith(_CODE)
            }
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, msgspec.DecodeError) as error:
        raise UsageError(f"{name} is not an artefact of `workflow-worker build`: {error}") from error
    if manifest.format > _FORMAT:
        raise UsageError(f"{name} was built by a newer release ({manifest.release}): upgrade workflow-worker here")
    if code_hash_of(files) != manifest.code_hash:
        raise _changed(name)
    for path in files:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise UsageError(f"{name} holds {path!r}, which lies outside of its folder: build it again")
    return manifest, files


def _content(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except zipfile.BadZipFile as error:  # the checksum of this one file
        raise _changed(name) from error


def _changed(name: str) -> UsageError:
    return UsageError(f"{name} was changed after it was built: build it again")
