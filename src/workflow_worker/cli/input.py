"""Data given on the command line: as it is, in a file, or on stdin."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import typer

from workflow_worker.model.codec import Unreadable, check_json
from workflow_worker.model.exceptions import NotFound


def read_data(text: str) -> bytes:
    """JSON text as bytes; ``@FILE`` is read from a file, ``-`` from stdin.

    Raises:
        NotFound: The file cannot be read.
        BadParameter: It is not JSON.
    """
    if text == "-":
        raw = sys.stdin.buffer.read()
    elif text.startswith("@"):
        try:
            raw = Path(text[1:]).read_bytes()
        except OSError as error:
            raise NotFound(f"cannot read {text[1:]}: {error.strerror}") from error
    else:
        raw = text.encode("utf-8", "surrogateescape")
    try:
        raw.decode()
        check_json(raw)
        msgspec.json.decode(raw)
    except (Unreadable, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise typer.BadParameter(
            f'--data is not JSON ({error}): write it as in --data \'{{"order_id": "o-1"}}\''
        ) from error
    return raw
