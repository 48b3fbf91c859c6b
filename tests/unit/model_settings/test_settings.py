"""Settings: read from a mapping, refused in one line, never showing a secret."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.model.settings import Settings, settings_table, variable_of, without_password

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"

DEFAULTS = {
    "poll_interval_ms": 1_000,
    "batch_size": 10,
    "max_retries": 3,
    "concurrency_limit": 5,
    "health_check_interval_ms": 30_000,
    "metrics_reporting_interval_ms": 60_000,
    "log_level": "info",
    "log_format": "auto",
    "redis_url": None,
    "durability": "relaxed",
    "allow_eviction": False,
    "workflow_app": None,
    "namespace": "ww",
    "lease_ttl_ms": 10_000,
    "stall_limit_ms": 30_000,
    "yield_limit_ms": 2_000,
    "early_event_ttl_ms": 86_400_000,
    "dedup_window_ms": 3_600_000,
    "retention_hours": 72,
    "retention_runs": 100_000,
    "max_event_bytes": 262_144,
    "max_takeovers": 3,
    "memory_high_water": 85,
    "history_warn_records": 10_000,
    "shutdown_grace_ms": 30_000,
    "host": "127.0.0.1",
    "port": 4_000,
    "api_token": None,
}


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items())
def test_default(name: str, value: object) -> None:
    assert getattr(Settings.from_mapping({}), name) == value


@pytest.mark.parametrize(("cores", "count"), [(0, 1), (1, 1), (6, 6), (256, 256), (1_000, 256)])
def test_workers_by_cores(cores: int, count: int) -> None:
    assert Settings.from_mapping({}, usable_cores=cores).worker_count == count


@pytest.mark.parametrize(
    ("variable", "low", "high"),
    [
        ("WORKER_COUNT", 1, 256),
        ("POLL_INTERVAL_MS", 1, 60_000),
        ("BATCH_SIZE", 1, 1_000),
        ("MAX_RETRIES", 0, 100),
        ("CONCURRENCY_LIMIT", 1, 10_000),
        ("HEALTH_CHECK_INTERVAL_MS", 100, 3_600_000),
        ("METRICS_REPORTING_INTERVAL_MS", 100, 3_600_000),
        ("LEASE_TTL_MS", 1_000, 600_000),
        ("YIELD_LIMIT_MS", 100, 600_000),
        ("PORT", 0, 65_535),
    ],
)
def test_bounds(variable: str, low: int, high: int) -> None:
    attribute = variable.lower()
    for value in (low, high):
        assert getattr(Settings.from_mapping({variable: str(value)}), attribute) == value
    for value in (low - 1, high + 1):
        with pytest.raises(ConfigurationError, match=f"{variable}='{value}' .* from {low} to {high}$"):
            Settings.from_mapping({variable: str(value)})


@pytest.mark.parametrize("text", ["", " ", "x", "1.5", "1e3", "0x10", "1_000", "٣", "1\n2", "9" * 5_000, "None", "-"])
def test_no_number(text: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_mapping({"BATCH_SIZE": text})
    assert str(refused.value).startswith("BATCH_SIZE=")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("DURABILITY", "yes"),
        ("ALLOW_EVICTION", "true"),
        ("NAMESPACE", "a{b}"),
        ("NAMESPACE", ""),
        ("HOST", "a b"),
        ("WORKFLOW_APP", ""),
        ("REDIS_URL", ""),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://h:99999"),
        ("API_TOKEN", "two words"),
    ],
)
def test_refused(variable: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{variable}=.* is not usable: allowed is "):
        Settings.from_mapping({variable: text})


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p@h:6380/2", "unix:///tmp/s.sock", "redis://[::1]:6379/0"])
def test_urls(url: str) -> None:
    assert Settings.from_mapping({"REDIS_URL": url}).redis_url == url


def test_words_in_any_case_and_white_space_around() -> None:
    settings = Settings.from_mapping({"LOG_LEVEL": " Debug ", "PORT": " 80\n", "ALLOW_EVICTION": "1"})
    assert (settings.log_level, settings.port, settings.allow_eviction) == ("debug", 80, True)


def test_a_mapping_and_back() -> None:
    given = {"REDIS_URL": "redis://h", "API_TOKEN": "t" * 20, "ALLOW_EVICTION": "1", "WORKFLOW_APP": "a b.py:app"}
    settings = Settings.from_mapping({**given, "HOME": "/root"}, usable_cores=3)
    assert Settings.from_mapping(settings.to_mapping()) == settings
    assert given.items() <= settings.to_mapping().items()


def test_no_secret_in_any_text() -> None:
    settings = Settings.from_mapping({"REDIS_URL": "redis://user:hun%40ter2@h/0", "API_TOKEN": "s3cr3t-token"})
    for text in (str(settings), repr(settings), f"{settings}"):
        assert "user:***@h" in text
        assert "hun%40ter2" not in text
        assert "s3cr3t-token" not in text
    assert set(settings.secrets()) == {"s3cr3t-token", "hun%40ter2", "hun@ter2"}


@pytest.mark.parametrize(
    "mapping",
    [
        {"API_TOKEN": "hunter2 and more"},
        {"REDIS_URL": "postgres://u:hunter2@h/1"},
        {"REDIS_URL": "redis://:hunter2@h:99999"},
        {"REDIS_URL": "redis://:a/hunter2@h"},
        {"REDIS_URL": "mysql://h?password=hunter2"},
    ],
)
def test_no_secret_in_a_refusal(mapping: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_mapping(mapping)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://u:p@h:1", "redis://u:***@h:1"),
        ("at redis://:p@x@h, twice", "at redis://:***@h, twice"),
        ("redis://h/?password=p&x=1", "redis://h/?password=***&x=1"),
        ("no url: a@b", "no url: a@b"),
    ],
)
def test_without_password(text: str, shown: str) -> None:
    assert without_password(text) == shown


def test_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # pyright: ignore[reportAttributeAccessIssue] - that is the point


def test_the_page_of_settings_is_current() -> None:
    table = settings_table()
    assert len(table.splitlines()) == len(DEFAULTS) + 3  # a header of two lines, and WORKER_COUNT
    assert table in PAGE.read_text(), "run: make docs"
    assert variable_of("port").name in table
