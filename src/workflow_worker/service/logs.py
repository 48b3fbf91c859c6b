"""Logs: a subscriber of facts that writes one line for each that is worth one at LOG_LEVEL.

Console in a terminal, JSON elsewhere (LOG_FORMAT). error: a person should look. warning: we recovered. info: the life
of services and workers. debug: every event, attempt and run. A healthy stream of events is silent at info, because a
line costs more than many an event. No payload is ever logged, and known secrets are struck out of every line.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

from workflow_worker.model.facts import Fact
from workflow_worker.model.instants import iso_ms
from workflow_worker.model.settings import Settings, without_password
from workflow_worker.service.facts import ServiceFact
from workflow_worker.service.lean import structlog
from workflow_worker.service.lines import level_of, line_of

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_NAMES = {number: name for name, number in _LEVELS.items()}
_CHATTY = ("asyncio", "watchfiles", "uvicorn")
_NOT_THE_AUTHORS = (str(Path(__file__).parents[1]), importlib.__file__, "<frozen ")

EventDict = MutableMapping[str, Any]


def configure_logs(
    settings: Settings, *, worker: str = "", write: Callable[[bytes], object] | None = None
) -> LogSubscriber:
    """Make the subscriber of this process, and lead the standard library's loggers (the author's) to the same place.

    Args:
        settings: LOG_LEVEL, LOG_FORMAT, and the secrets that no line may hold.
        worker: Name of the worker process; empty in the service.
        write: Where lines go; by default file descriptor 2, one write per line, so that the lines of several
            processes do not mix.
    """
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    subscriber = LogSubscriber(settings, worker, write or _write_to_stderr, console=console)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Bridge)]:
        root.removeHandler(handler)
    root.addHandler(_Bridge(subscriber))
    root.setLevel(_LEVELS[settings.log_level])
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    return subscriber


_RESERVED = frozenset({"timestamp", "level", "event", "self", "method_name"})
"""Ours in every line, or names of parameters on structlog's way to the line."""


class LogSubscriber:
    """Callable with any fact of a worker or of the service; never raises, whatever becomes of the log's reader."""

    def __init__(self, settings: Settings, worker: str, write: Callable[[bytes], object], *, console: bool) -> None:
        self._threshold = _LEVELS[settings.log_level]
        renderer: Any = (
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
            )
            if console
            else structlog.processors.JSONRenderer(serializer=_to_json)
        )
        self._logger = structlog.wrap_logger(
            _Lines(write),
            processors=[_Order(worker), _StrikeOut(settings.secrets()), renderer],
            wrapper_class=structlog.make_filtering_bound_logger(self._threshold),
        )

    def __call__(self, fact: Fact | ServiceFact) -> None:
        level = level_of(fact)
        if level < self._threshold:
            return  # before anything is built
        event, fields = line_of(fact)
        self.write(level, event, fields)

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """Write one line of this level. An author's field named like one of ours gets an underscore behind its name."""
        named = {f"{name}_" if name in _RESERVED else str(name): value for name, value in fields.items()}
        self._logger.log(level, event, **named)

    def author_error(self, error: BaseException) -> None:
        """Show an error of the author's code with the author's part of its traceback."""
        frame = error.__traceback__
        while frame is not None and frame.tb_frame.f_code.co_filename.startswith(_NOT_THE_AUTHORS):
            frame = frame.tb_next
        if frame is None:  # a syntax error, or no such module: the last lines say it all
            lines = traceback.format_exception_only(error)
        else:
            lines = traceback.format_exception(type(error), error, frame)
        self.write(logging.ERROR, "the app cannot be imported", {"exception": "".join(lines).rstrip()})


class _Bridge(logging.Handler):
    """From the standard library's loggers to ours."""

    def __init__(self, subscriber: LogSubscriber) -> None:
        super().__init__()
        self._subscriber = subscriber

    def emit(self, record: logging.LogRecord) -> None:
        level = max((known for known in _NAMES if known <= record.levelno), default=logging.DEBUG)
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        try:
            self._subscriber.write(level, record.getMessage(), fields)
        except Exception:  # noqa: BLE001 - a stranger's format string; logging's own way to say so
            self.handleError(record)


class _Lines:
    """What structlog calls with a rendered line."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def debug(self, line: str) -> None:
        self._write(line.encode(errors="backslashreplace") + b"\n")

    info = warning = error = critical = debug


class _Order:
    """Time and level first, then what happened, then whose it is."""

    def __init__(self, worker: str) -> None:
        self._worker = worker

    def __call__(self, _: object, level: str, event: EventDict) -> EventDict:
        ordered: EventDict = {"timestamp": iso_ms(time.time_ns() // 1_000_000), "level": level}
        ordered["event"] = event.pop("event")
        if self._worker and "worker" not in event:
            ordered["worker"] = self._worker
        ordered.update(event)
        return ordered


class _StrikeOut:
    """No secret, and nothing that a terminal would obey, in any text of a line."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = secrets

    def __call__(self, _: object, __: str, event: EventDict) -> EventDict:
        for name, value in event.items():
            if isinstance(value, str):
                event[name] = self._clean(value, lines=name == "exception")
            elif isinstance(value, list | tuple | dict):
                # Rare (reasons, author's fields): as JSON text, and so without control characters.
                event[name] = msgspec.json.decode(self._clean(_to_json(value), lines=False))
        return event

    def _clean(self, text: str, *, lines: bool) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = without_password(text) if "://" in text else text
        if text.isprintable():
            return text
        kept = "\n\t" if lines else ""
        return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def _to_json(value: Any, **_: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except (TypeError, ValueError, RecursionError):
        return msgspec.json.encode({name: repr(each) for name, each in value.items()}).decode()


def _write_to_stderr(line: bytes) -> None:
    """The log's reader may be gone (EPIPE), slow (EAGAIN) or its disk full: work goes on without the line."""
    try:
        os.write(2, line)
    except OSError:
        return
