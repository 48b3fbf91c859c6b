"""`Settings`: everything an operator can set, each with its variable, unit, default, bounds and one line of help.

Read once, by whoever composes a process, from a mapping of variables (`Settings.from_mapping`); passed on as a value.
The table in the documentation is rendered from the same declarations (`settings_table`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from workflow_worker.model.exceptions import ConfigurationError

MAX_WORKERS = 256
_YEAR_MS = 31_536_000_000
_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*://[^/\s@]*?:)\S*@")
_NO_PORT = re.compile(r"(://[^/\s@:\[]*:)(?!\d+[.:;)'\"]?(?:[/?,\s]|$))[^/?\s@]+(?![^/?\s]*@)")
"""A URL that ends where its password does, for want of ``@host``: what stands where a port should be is none."""
_PASSWORD_ARGUMENT = re.compile(r"([?&](?:[a-z]+_)?password=)[^&\s]*", re.IGNORECASE)
_URL = r"rediss?(\+sentinel)?://[^\s/]+(/[^\s]*)?|unix://[^\s]+"


def without_password(text: str) -> str:
    """The same text, with the password of every URL in it replaced by ``***``."""
    return _PASSWORD_ARGUMENT.sub(r"\1***", _NO_PORT.sub(r"\1***", _PASSWORD.sub(r"\1***@", text)))


@dataclass(frozen=True, slots=True)
class Variable:
    """How one setting is read from its variable, checked, shown and explained.

    A number has `low` and `high`, a choice has `words` (``0`` and ``1`` are a switch), anything else has `shape`, a
    regular expression for the whole text, and `hint`, which says the same to a person.
    """

    name: str
    help: str
    unit: str = ""
    low: int = 0
    high: int = 0
    words: tuple[str, ...] = ()
    shape: str = ""
    hint: str = ""
    default: str = ""
    secret: bool = False

    @property
    def allowed(self) -> str:
        """What may be written, for people."""
        return self.hint or " or ".join(self.words) or f"a whole number from {self.low} to {self.high}"

    def read(self, text: str) -> int | str | bool:
        """The value that `text` stands for.

        Raises:
            ConfigurationError: The text is not allowed here; its one line names variable, value and what is allowed.
        """
        value = text.strip()
        if self.words and value.lower() in self.words:
            return value == "1" if self.words == ("0", "1") else value.lower()
        if self.shape and re.fullmatch(self.shape, value):
            return value
        # At most 18 digits: int() of a hostile megabyte of digits is slow, and no bound here is longer.
        if not self.words and not self.shape and re.fullmatch(r"[+-]?[0-9]{1,18}", value):
            number = int(value)
            if self.low <= number <= self.high:
                return number
        raise self.refusal(text)

    def refusal(self, text: str) -> ConfigurationError:
        """The error for a value that cannot be used; it shows no secret and stays on one line."""
        shown = "***" if self.secret else repr(without_password(text)[:100])
        advice = "" if text.strip() else f"; unset it for the default ({self.default})"
        return ConfigurationError(f"{self.name}={shown} is not usable: allowed is {self.allowed}{advice}")


def _number(default: int, name: str, low: int, high: int, unit: str, help: str, shown: str = "") -> int:
    return _declare(default, Variable(name, help, unit, low, high, default=shown or str(default)))


def _choice(default: str, name: str, words: tuple[str, ...], help: str) -> str:
    return _declare(default, Variable(name, help, words=words, default=default))


def _declare(default: Any, variable: Variable) -> Any:
    return field(default=default, metadata={"variable": variable}, repr=not variable.secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One frozen object; spans are milliseconds unless the name says otherwise."""

    worker_count: int = _number(
        1, "WORKER_COUNT", 1, MAX_WORKERS, "", "Worker processes of this service.", "usable cores"
    )
    poll_interval_ms: int = _number(
        1_000, "POLL_INTERVAL_MS", 1, 60_000, "ms", "How long an idle worker sleeps at most before it looks for work."
    )
    batch_size: int = _number(10, "BATCH_SIZE", 1, 1_000, "", "Runs that one worker leases ahead of execution.")
    max_retries: int = _number(
        3, "MAX_RETRIES", 0, 100, "", "Retries of an action after its first attempt, unless it has a policy of its own."
    )
    concurrency_limit: int = _number(5, "CONCURRENCY_LIMIT", 1, 10_000, "", "Runs that one worker executes at a time.")
    health_check_interval_ms: int = _number(
        30_000, "HEALTH_CHECK_INTERVAL_MS", 100, 3_600_000, "ms", "How often health is judged and changes are logged."
    )
    metrics_reporting_interval_ms: int = _number(
        60_000, "METRICS_REPORTING_INTERVAL_MS", 100, 3_600_000, "ms", "How often the metrics line is logged."
    )
    log_level: str = _choice(
        "info", "LOG_LEVEL", ("debug", "info", "warning", "error"), "The lowest level that is logged."
    )
    log_format: str = _choice(
        "auto", "LOG_FORMAT", ("auto", "console", "json"), "auto is console in a terminal and JSON elsewhere."
    )
    redis_url: str | None = _declare(
        None,
        Variable(
            "REDIS_URL",
            "The Redis or Valkey server, or the sentinels that know it; unset, an embedded server starts by itself, for"
            " development.",
            shape=_URL,
            hint="redis://[user:password@]host[:port][/db], rediss://… for TLS, unix:///path, or"
            " redis+sentinel://[user:password@]host[:port],…/name[/db] (rediss+sentinel://… for TLS)",
            default="unset: embedded",
            secret=False,
        ),
    )
    durability: str = _choice(
        "relaxed",
        "DURABILITY",
        ("relaxed", "fsync", "replicated"),
        "What an acknowledged write has reached: the server's memory, its disk, or a replica.",
    )
    allow_eviction: bool = _declare(
        False,
        Variable(
            "ALLOW_EVICTION", "1 starts on a server that may evict keys, that is, lose events.", words=("0", "1"),
            default="0",
        ),
    )  # fmt: skip
    workflow_app: str | None = _declare(
        None,
        Variable(
            "WORKFLOW_APP",
            "The author's app: package.module[:attribute] or path/file.py[:attribute].",
            shape=r"[^\s].*",
            hint="package.module[:attribute] or path/file.py[:attribute]",
            default="–",
        ),
    )
    namespace: str = _declare(
        "ww",
        Variable(
            "NAMESPACE",
            "Prefix of all keys; events enter at the stream <namespace>:{<namespace>:0}:events.",
            shape=r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63}",
            hint="1 to 64 letters, digits, '_', '.' or '-'",
            default="ww",
        ),
    )
    lease_ttl_ms: int = _number(
        10_000, "LEASE_TTL_MS", 1_000, 600_000, "ms", "After this long at most, others take over a dead worker's runs."
    )
    stall_limit_ms: int = _number(
        30_000,
        "STALL_LIMIT_MS",
        1_000,
        3_600_000,
        "ms",
        "A worker whose event loop stands still this long is replaced.",
    )
    yield_limit_ms: int = _number(
        2_000, "YIELD_LIMIT_MS", 100, 600_000, "ms", "A run whose code does not yield for this long is suspended."
    )
    early_event_ttl_ms: int = _number(
        86_400_000, "EARLY_EVENT_TTL_MS", 1_000, _YEAR_MS, "ms", "How long an event waits for a run about its subject."
    )
    dedup_window_ms: int = _number(
        3_600_000, "DEDUP_WINDOW_MS", 1_000, _YEAR_MS, "ms", "For this long, an event id is accepted only once."
    )
    retention_hours: int = _number(72, "RETENTION_HOURS", 1, 87_600, "h", "How long ended runs are kept.")
    retention_runs: int = _number(100_000, "RETENTION_RUNS", 1, 100_000_000, "", "How many ended runs are kept.")
    max_event_bytes: int = _number(262_144, "MAX_EVENT_BYTES", 256, 16_777_216, "bytes", "Largest data of an event.")
    max_takeovers: int = _number(
        3, "MAX_TAKEOVERS", 1, 1_000, "", "A run that lost this many workers in a row without progress is suspended."
    )
    history_warn_records: int = _number(
        10_000,
        "HISTORY_WARN_RECORDS",
        0,
        10_000_000,
        "",
        "The log warns once about a run with this many records in its history; 0 switches this off.",
    )
    memory_high_water: int = _number(
        85,
        "MEMORY_HIGH_WATER",
        0,
        100,
        "%",
        "Above this share of Redis' maxmemory, events that would start a run are refused; 0 switches this off.",
    )
    shutdown_grace_ms: int = _number(
        30_000,
        "SHUTDOWN_GRACE_MS",
        0,
        3_600_000,
        "ms",
        "Time to finish or hand back work at shutdown, before the kill.",
    )
    host: str = _declare(
        "127.0.0.1",
        Variable(
            "HOST",
            "Address of the web server; any but loopback needs API_TOKEN.",
            shape=r"[A-Za-z0-9_.:\-\[\]]{1,253}",
            hint="a host name or address, such as 127.0.0.1 or 0.0.0.0",
            default="127.0.0.1",
        ),
    )
    port: int = _number(4_000, "PORT", 0, 65_535, "", "Port of the web server; 0 takes any free one.")
    api_token: str | None = _declare(
        None,
        Variable(
            "API_TOKEN",
            "Bearer token for the web server.",
            shape=r"[\x21-\x7e]{1,1024}",
            hint="1 to 1024 printable ASCII characters without white space",
            default="–",
            secret=True,
        ),
    )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str], *, usable_cores: int = 1) -> Settings:
        """Read all settings; unknown variables are none of ours and ignored.

        Args:
            mapping: Variables and their texts, as in ``os.environ``. A variable set to the empty text is an error and
                not unset: an empty REDIS_URL in production would quietly start an embedded server.
            usable_cores: Default of WORKER_COUNT, brought into its range.

        Raises:
            ConfigurationError: A value is not allowed; the first one in the order of the table is named.
        """
        values: dict[str, Any] = {"worker_count": min(max(usable_cores, 1), MAX_WORKERS)}
        for attribute, variable in _declared():
            text = mapping.get(variable.name)
            if text is not None:
                values[attribute] = variable.read(text)
        settings = cls(**values)
        settings._check_url()
        return settings

    def to_mapping(self) -> dict[str, str]:
        """The variables that make an equal object; holds secrets. For a child process's environment."""
        mapping: dict[str, str] = {}
        for attribute, variable in _declared():
            value = getattr(self, attribute)
            if value is not None:
                mapping[variable.name] = str(int(value)) if isinstance(value, bool) else str(value)
        return mapping

    def secrets(self) -> tuple[str, ...]:
        """Texts that must not appear in any output."""
        found = [self.api_token]
        if self.redis_url is not None:
            parts = urlsplit(self.redis_url)
            found += [parts.password, unquote(parts.password or "")]
            for option, values in parse_qs(parts.query).items():
                found += values if option.endswith("password") else []
        return tuple(dict.fromkeys(secret for secret in found if secret))

    def __str__(self) -> str:
        shown = ((variable, getattr(self, attribute)) for attribute, variable in _declared())
        return " ".join(
            f"{variable.name}={'***' if variable.secret else without_password(str(value))}"
            for variable, value in shown
            if value is not None
        )

    __repr__ = __str__

    def _check_url(self) -> None:
        """A port out of range or a broken IPv6 address passes the shape; urlsplit finds it only when asked."""
        if self.redis_url is None:
            return
        try:
            parts = urlsplit(self.redis_url)
            if not parts.scheme.endswith("+sentinel"):
                _ = parts.port
            elif any(int(port) > 65_535 for port in re.findall(r":([0-9]+)(?:,|$)", parts.netloc.rpartition("@")[2])):
                raise ValueError("port out of range")
        except ValueError:
            # Not chained: its message quotes what stands where the port should be, perhaps a piece of the password.
            raise variable_of("redis_url").refusal(self.redis_url) from None


def variable_of(attribute: str) -> Variable:
    """The declaration behind an attribute of `Settings`."""
    return dict(_declared())[attribute]


def settings_table() -> str:
    """All settings as a Markdown table, in their declared order."""
    rows = ["| variable | default | allowed | unit | meaning |", "|---|---|---|---|---|"]
    for _, variable in _declared():
        cells = (f"`{variable.name}`", variable.default, variable.allowed, variable.unit, variable.help)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _declared() -> list[tuple[str, Variable]]:
    return [(each.name, cast("Variable", each.metadata["variable"])) for each in fields(Settings)]
