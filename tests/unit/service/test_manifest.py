from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_worker.model.exceptions import UsageError
from workflow_worker.service.manifest import Manifest, WorkflowEntry, code_hash_of, pack, unpack

FILES = {"shop/__init__.py": b"", "shop/flows.py": b"app = 1\n"}


def manifest_for(files: dict[str, bytes], **changes: object) -> Manifest:
    values: dict[str, object] = {
        "app": "shop",
        "entry": "shop.flows:app",
        "workflows": (WorkflowEntry(name="fulfil", version=2),),
        "actions": ("charge",),
        "events": ("order.placed",),
        "code_hash": code_hash_of(files),
        "release": "0.1.0",
        "python": "3.11",
    }
    return Manifest(**(values | changes))  # pyright: ignore[reportArgumentType] - a test's keywords


def test_what_is_packed_comes_out_again() -> None:
    manifest = manifest_for(FILES)
    assert unpack("x.wwa", pack(manifest, FILES)) == (manifest, FILES)
    assert manifest.file_name == f"shop-{manifest.code_hash[:12]}.wwa"


def test_equal_input_gives_equal_bytes_whatever_its_order() -> None:
    manifest = manifest_for(FILES)
    assert pack(manifest, FILES) == pack(manifest, dict(reversed(FILES.items())))


@given(
    st.dictionaries(st.text(max_size=5), st.binary(max_size=5)),
    st.dictionaries(st.text(max_size=5), st.binary(max_size=5)),
)
def test_two_sets_of_files_have_one_hash_only_if_they_are_equal(a: dict[str, bytes], b: dict[str, bytes]) -> None:
    assert (code_hash_of(a) == code_hash_of(b)) == (a == b)


def test_a_name_cannot_borrow_from_its_content() -> None:
    assert code_hash_of({"ab": b"c"}) != code_hash_of({"a": b"bc"})


def rewritten(content: bytes, changed: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, changed.pop(name, source.read(name)))
        for name, data in changed.items():
            archive.writestr(name, data)
    return target.getvalue()


@pytest.mark.parametrize("changed", [{"code/shop/flows.py": b"app = 2\n"}, {"code/shop/more.py": b""}])
def test_a_changed_artefact_is_refused(changed: dict[str, bytes]) -> None:
    with pytest.raises(UsageError, match="changed after it was built"):
        unpack("x.wwa", rewritten(pack(manifest_for(FILES), FILES), changed))


@pytest.mark.parametrize("path", ["../evil.py", "/evil.py", "a/../../evil.py"])
def test_a_file_outside_of_the_folder_is_refused(path: str) -> None:
    files = {path: b""}
    with pytest.raises(UsageError, match="outside"):
        unpack("x.wwa", pack(manifest_for(files), files))


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all"])
def test_what_is_no_artefact_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="not an artefact"):
        unpack("x.wwa", content)


def test_a_zip_without_manifest_is_refused() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("code/a.py", b"")
    with pytest.raises(UsageError, match="not an artefact"):
        unpack("x.wwa", target.getvalue())


def test_a_newer_format_asks_for_an_upgrade() -> None:
    with pytest.raises(UsageError, match="newer release"):
        unpack("x.wwa", pack(manifest_for(FILES, format=2), FILES))
