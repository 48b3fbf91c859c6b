from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from workflow_worker.cli.events_file import BadLine, groups, open_events
from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import NotFound

LINES = b"""{"id": "e-1", "type": "a", "subject": "s", "data": {"n":  1}, "source": "x", "specversion": "1.0"}

{"type": "b"}
{"id": "e-3"}
not json
{"type": "c", "data": null, "id": null, "subject": ""}
{"type": ""}
{"type": "\xff"}
[1]
{"type": 5}"""


def read(path: Path) -> list[tuple[int, Event | BadLine]]:
    with open_events(str(path)) as source:
        return list(source.events())


@pytest.mark.parametrize("packed", [False, True])
def test_each_line_is_an_event_or_says_what_is_wrong(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "events"
    path.write_bytes(gzip.compress(LINES) if packed else LINES)
    found = read(path)
    assert [(line, each) for line, each in found if isinstance(each, Event)] == [
        (1, Event("e-1", "a", "s", b'{"n":  1}', source="x")),
        (3, Event("", "b", None, b"null")),
        (6, Event("", "c", None, b"null")),
    ]
    bad = {line: each.reason for line, each in found if isinstance(each, BadLine)}
    assert list(bad) == [4, 5, 7, 8, 9, 10]
    assert "type" in bad[4]
    assert bad[7] == "the type is empty"


def test_a_torn_gzip_file_gives_its_events_and_says_where_it_ends(tmp_path: Path) -> None:
    lines = b"".join(b'{"type": "t", "id": "%d"}\n' % number for number in range(20_000))
    path = tmp_path / "torn.jsonl.gz"
    path.write_bytes(gzip.compress(lines)[:-2_000])
    found = read(path)
    assert isinstance(found[-1][1], BadLine)
    assert "the file ends here" in found[-1][1].reason
    assert 100 < len(found) < 20_000


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cannot read"):
        read(tmp_path / "none")
    with pytest.raises(NotFound, match="directory"):
        read(tmp_path)


async def test_a_file_comes_in_full_groups(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b'{"type": "t"}\n' * 450)
    with open_events(str(path)) as source:
        assert [len(group) async for group in groups(source, 200)] == [200, 200, 50]


async def test_a_line_in_a_pipe_is_passed_on_before_the_pipe_ends(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    try:
        os.write(writer, b'{"type": "first"}\n')
        with open_events(str(path)) as source:
            arriving = groups(source, 200)
            ((line, event),) = await anext(arriving)
            assert (line, isinstance(event, Event) and event.type) == (1, "first")
            os.write(writer, b"no json\n")
            ((line, bad),) = await anext(arriving)
            assert (line, isinstance(bad, BadLine)) == (2, True)
    finally:
        os.close(writer)


async def test_a_pipe_that_ends_ends_the_groups() -> None:
    reader, writer = os.pipe()
    os.write(writer, b'{"type": "t"}\n' * 3)
    os.close(writer)
    with open_events(f"/dev/fd/{reader}") as source:
        found = [item async for group in groups(source, 2) for item in group]
    os.close(reader)
    assert [line for line, _ in found] == [1, 2, 3]
