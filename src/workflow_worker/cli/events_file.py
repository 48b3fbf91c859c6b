"""Events from a file: one JSON object a line, plain or gzip. Reading only; `publish.py` sends them."""

from __future__ import annotations

import asyncio
import gzip
import os
import stat
import sys
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

import msgspec

from workflow_worker.model.event import Event
from workflow_worker.model.exceptions import NotFound

_GZIP_MAGIC = b"\x1f\x8b"


class _Line(msgspec.Struct, frozen=True):
    """One line. Names are CloudEvents'; other names (``specversion``) are ignored, null is as good as absent."""

    type: str
    id: str | None = None
    subject: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    source: str | None = None
    time: str | None = None
    tenant: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is no event, and why."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """An open file of events; `size` is its length in bytes, None where it cannot be known (a pipe)."""

    stream: BinaryIO
    size: int | None
    _raw: BinaryIO

    def position(self) -> int:
        """How many bytes of the file (packed, if it is packed) were read."""
        return self._raw.tell() if self.size is not None else 0

    def events(self) -> Iterator[tuple[int, Event | BadLine]]:
        """Line number and event, or what is wrong with it; empty lines are skipped.

        An event without id gets an empty one: publishing gives it a new one, so that it is not deduplicated.
        """
        decoder = msgspec.json.Decoder(_Line)
        number = 0
        while True:
            number += 1
            try:
                text = self.stream.readline()
            except (OSError, EOFError) as error:  # a torn gzip file
                yield number, BadLine(number, f"the file ends here: {error}")
                return
            if not text:
                return
            if text.strip():
                yield number, _event(decoder, number, text)


Numbered = tuple[int, Event | BadLine]


async def groups(source: Source, most: int) -> AsyncIterator[list[Numbered]]:
    """What the file holds, in groups of at most `most` lines.

    A file is read in full groups. What comes through a pipe is passed on when it is there: a producer that writes one
    line a minute has each published at once.
    """
    if source.size is not None:
        group: list[Numbered] = []
        for item in source.events():
            group.append(item)
            if len(group) == most:
                yield group
                group = []
        if group:
            yield group
        return
    queue = asyncio.Queue[Numbered | None](most)
    # A thread of our own: reading a pipe cannot be interrupted, and the loop's own threads are waited for at exit.
    threading.Thread(target=_feed, args=(source, queue, asyncio.get_running_loop()), daemon=True).start()
    while (first := await queue.get()) is not None:
        group = [first]
        while len(group) < most and not queue.empty():
            item = queue.get_nowait()
            if item is None:
                yield group
                return
            group.append(item)
        yield group


def _feed(source: Source, queue: asyncio.Queue[Numbered | None], loop: asyncio.AbstractEventLoop) -> None:
    try:
        for item in _until_end(source):
            asyncio.run_coroutine_threadsafe(queue.put(item), loop).result()
    except (CancelledError, RuntimeError, ValueError):
        return  # the command ended before the pipe did: the loop or the file is closed


def _until_end(source: Source) -> Iterator[Numbered | None]:
    yield from source.events()
    yield None


def _event(decoder: msgspec.json.Decoder[_Line], number: int, text: bytes) -> Event | BadLine:
    try:
        line = decoder.decode(text)
        bytes(line.data).decode()
    except RecursionError:
        return BadLine(number, "nested too deep")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return BadLine(number, str(error))
    if not line.type:
        return BadLine(number, "the type is empty")
    return Event(
        id=line.id or "",
        type=line.type,
        subject=line.subject or None,
        data=bytes(line.data),
        source=line.source,
        time=line.time,
        tenant=line.tenant,
        traceparent=line.traceparent,
    )


@contextmanager
def open_events(name: str) -> Generator[Source]:
    """Open a file of events, ``-`` for stdin; gzip is recognised by its first bytes, whatever the name is.

    Raises:
        NotFound: The file cannot be read.
    """
    try:
        raw = open(sys.stdin.fileno() if name == "-" else name, "rb", closefd=name != "-")  # noqa: SIM115 - see finally
    except OSError as error:
        raise NotFound(f"cannot read {name}: {error.strerror}") from error
    try:
        facts = os.fstat(raw.fileno())
        size = facts.st_size if stat.S_ISREG(facts.st_mode) else None
        packed = raw.peek(2)[:2] == _GZIP_MAGIC
        yield Source(cast("BinaryIO", gzip.GzipFile(fileobj=raw)) if packed else raw, size, raw)
    finally:
        raw.close()
