"""Which error is what: the authors' rules, the order of the tiers, causes, groups, and the built-in catalogue."""

from __future__ import annotations

import errno
import json
import sqlite3
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis.exceptions as redis_errors

from workflow_worker.errors.classifier import Rule, classify
from workflow_worker.errors.recover import Recover
from workflow_worker.errors.retry import RetryPolicy
from workflow_worker.errors.verdict import Fail, Park
from workflow_worker.model.exceptions import ActionTimeout, Failed, StoreUnavailable, UsageError
from workflow_worker.model.failure import ErrorKind
from workflow_worker.model.recovery import Recovery

T, R, P = ErrorKind.TRANSIENT, ErrorKind.RECOVERABLE, ErrorKind.PERMANENT
NOW = 1_800_000_000_000


class CardDeclined(Exception):
    def __init__(self, code: str = "") -> None:
        super().__init__(code)
        self.code = code


class Unknown(Exception):
    pass


def stranger(name: str, *bases: type, args: tuple[Any, ...] = ("x",), **attributes: Any) -> Exception:
    """An error of a library that is not installed: only its names are real."""
    module, _, qualname = name.rpartition(".")
    made: Any = type(qualname, bases or (Exception,), {"__module__": module, "__qualname__": qualname})
    error: Exception = made(*args)
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


def answer(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://x")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, headers=named, request=request))


def aws(code: str, status: int) -> Exception:
    response: dict[str, Any] = {
        "Error": {"Code": code},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {}},
    }
    return stranger("botocore.exceptions.ClientError", response=response)


def grpc(status: str) -> Exception:
    return stranger("grpc.aio._call.AioRpcError", code=lambda: SimpleNamespace(name=status))


def locked() -> Exception:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


def in_sqlalchemy(original: Exception, name: str = "OperationalError") -> Exception:
    return stranger(f"sqlalchemy.exc.{name}", orig=original, connection_invalidated=False)


POSTGRES = "asyncpg.exceptions._base.PostgresError"

TABLE: list[tuple[Exception | BaseException, ErrorKind]] = [
    (ConnectionRefusedError(), T),
    (BrokenPipeError(), T),
    (TimeoutError(), R),
    (ActionTimeout("x"), R),
    (OSError(errno.ENOSPC, "full"), R),
    (OSError(errno.ENETUNREACH, "no net"), R),
    (OSError(errno.EROFS, "read only"), P),
    (OSError("unknown"), R),
    (FileNotFoundError(), P),
    (PermissionError(), P),
    (MemoryError(), R),
    (ValueError(), P),
    (KeyError(), P),
    (UnicodeDecodeError("utf-8", b"", 0, 1, "x"), P),
    (ZeroDivisionError(), P),
    (ModuleNotFoundError(), P),
    (RecursionError(), P),
    (SystemExit(1), P),
    (RuntimeError(), R),
    (Unknown(), R),
    (json.JSONDecodeError("x", "", 0), R),
    (UsageError("x"), P),
    (Failed("x"), P),
    (StoreUnavailable("x"), R),
    (redis_errors.ConnectionError(), T),
    (redis_errors.TimeoutError(), R),
    (redis_errors.AuthenticationError(), P),
    (redis_errors.BusyLoadingError(), R),
    (redis_errors.ReadOnlyError(), R),
    (redis_errors.ClusterDownError("CLUSTERDOWN"), R),
    (redis_errors.MovedError("1 127.0.0.1:1"), T),
    (redis_errors.WatchError(), T),
    (redis_errors.ResponseError("WRONGTYPE Operation"), P),
    (redis_errors.ResponseError("MISCONF Redis is configured"), R),
    (redis_errors.NoPermissionError(), P),
    (httpx.ConnectError("x"), T),
    (httpx.ConnectTimeout("x"), T),
    (httpx.ReadTimeout("x"), R),
    (httpx.ReadError("x"), R),
    (httpx.UnsupportedProtocol("x"), P),
    (httpx.InvalidURL("x"), P),
    *((answer(status), R) for status in (408, 425, 429, 500, 502, 503, 504)),
    *((answer(status), P) for status in (400, 401, 403, 404, 409, 410, 422)),
    (stranger("requests.exceptions.ConnectionError", OSError), T),
    (stranger("requests.exceptions.MissingSchema", ValueError), P),
    (stranger("requests.exceptions.HTTPError", OSError, response=answer(503).response), R),
    (stranger("requests.exceptions.HTTPError", OSError, response=answer(404).response), P),
    (stranger("aiohttp.client_exceptions.ClientResponseError", status=429, headers=None), R),
    (stranger("aiohttp.client_exceptions.ClientResponseError", status=403, headers={}), P),
    (stranger("aiohttp.client_exceptions.ServerDisconnectedError", type(stranger(
        "aiohttp.client_exceptions.ClientConnectionError"))), T),
    (stranger(POSTGRES, sqlstate="40001"), T),
    (stranger(POSTGRES, sqlstate="40P01"), T),
    (stranger(POSTGRES, sqlstate="08006"), R),
    (stranger(POSTGRES, sqlstate="53300"), R),
    (stranger(POSTGRES, sqlstate="57P01"), R),
    (stranger("asyncpg.exceptions.UniqueViolationError", type(stranger(POSTGRES)), sqlstate="23505"), P),
    (stranger(POSTGRES, sqlstate="42P01"), P),
    (stranger(POSTGRES, sqlstate="22001"), P),
    (stranger("psycopg.errors.SerializationFailure", type(stranger("psycopg.OperationalError")), sqlstate="40001"), T),
    (stranger("psycopg.OperationalError", sqlstate=None), R),
    (stranger("psycopg2.IntegrityError", pgcode=None), P),
    (stranger("pymysql.err.OperationalError", args=(1213, "deadlock")), T),
    (stranger("pymysql.err.OperationalError", args=(1045, "denied")), P),
    (stranger("pymysql.err.IntegrityError", args=(1062, "twice")), P),
    (locked(), T),
    (sqlite3.OperationalError("database is locked"), T),
    (sqlite3.OperationalError("no such table: x"), P),
    (sqlite3.IntegrityError("UNIQUE"), P),
    (in_sqlalchemy(locked()), T),
    (in_sqlalchemy(stranger(POSTGRES, sqlstate="40001"), "DBAPIError"), T),
    (in_sqlalchemy(stranger("unknown.Error")), R),
    (in_sqlalchemy(stranger("unknown.Error"), "IntegrityError"), P),
    (stranger("sqlalchemy.exc.TimeoutError"), R),
    (stranger("sqlalchemy.orm.exc.StaleDataError"), T),
    (grpc("UNAVAILABLE"), T),
    (grpc("DEADLINE_EXCEEDED"), R),
    (grpc("INVALID_ARGUMENT"), P),
    (aws("ThrottlingException", 400), R),
    (aws("InternalError", 500), R),
    (aws("ValidationException", 400), P),
    (stranger("botocore.exceptions.NoCredentialsError"), P),
    (stranger("smtplib.SMTPDataError", type(stranger("smtplib.SMTPResponseException")), smtp_code=451), R),
    (stranger("smtplib.SMTPResponseException", smtp_code=550), P),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "kind"), TABLE, ids=[f"{type(error).__module__}.{error!r}"[:90] for error, _ in TABLE]
)
def test_the_catalogue_knows_what_an_error_means(error: BaseException, kind: ErrorKind) -> None:
    assert classify(error, now_ms=NOW).kind is kind


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120_000),
        ("0", 0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30_000),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("9" * 60, 999_999_999_999_000),
        ("Fri, 99 Jan 2027 08:00:30 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header: str, wait: int | None) -> None:
    assert classify(answer(429, retry_after=header), now_ms=NOW).retry_after_ms == wait
    plain = stranger("aiohttp.client_exceptions.ClientResponseError", status=503, headers={"RETRY-AFTER": header})
    assert classify(plain, now_ms=NOW).retry_after_ms == wait


def test_rules_go_before_the_catalogue_and_the_first_that_matches_decides() -> None:
    rules = (Rule(ConnectionResetError).permanent(Fail()), Rule(ConnectionError).recoverable())
    assert (classify(ConnectionResetError(), rules).kind, classify(ConnectionResetError(), rules).outcome) == (
        P,
        Fail(),
    )
    assert classify(BrokenPipeError(), rules).kind is R
    assert classify(ConnectionResetError(), rules[::-1]).kind is R


def test_a_rule_looks_at_attributes_and_asks_a_predicate() -> None:
    rules = (
        Rule(CardDeclined, code=("lost", "stolen")).permanent(Fail()),
        Rule(CardDeclined, code="busy").transient(),
        Rule(CardDeclined, where=lambda error: error.code.startswith("later")).recoverable(retry_after=7),
        Rule(CardDeclined, where=lambda error: error.nothing).permanent(),
    )
    assert classify(CardDeclined("stolen"), rules).outcome == Fail()
    assert classify(CardDeclined("busy"), rules).kind is T
    assert classify(CardDeclined("later-1"), rules).retry_after_ms == 7_000
    assert classify(CardDeclined("else"), rules).rule == "default"


def test_a_rule_by_qualified_name_needs_no_import_and_covers_subclasses() -> None:
    base = type(stranger("stripe.error.StripeError"))
    error = stranger("stripe.error.CardError", base)
    assert classify(error, (Rule("stripe.error.StripeError").permanent(),)).kind is P
    assert classify(error, (Rule("stripe.error.Other").permanent(),)).kind is R


def test_retry_after_of_a_rule_may_come_from_the_error() -> None:
    rule = Rule(CardDeclined).recoverable(retry_after=lambda error: float(error.code) if error.code else None)
    assert [classify(CardDeclined(code), (rule,)).retry_after_ms for code in ("2.5", "", "x", "-1")] == [
        2_500, None, None, None,
    ]  # fmt: skip


def test_explicit_causes_count_and_the_error_itself_goes_first() -> None:
    wrapped = Unknown()
    wrapped.__cause__ = httpx.ConnectError("x")
    assert classify(wrapped).kind is T
    assert classify(wrapped, (Rule(httpx.ConnectError).permanent(),)).kind is P
    assert classify(wrapped, (Rule(httpx.ConnectError).permanent(), Rule(Unknown).recoverable())).kind is R


def test_what_was_being_handled_says_nothing_and_a_wrapped_mistake_is_no_mistake() -> None:
    implicit, explicit = Unknown(), Unknown()
    implicit.__context__ = FileNotFoundError()
    explicit.__cause__ = KeyError("x")
    assert [classify(error).rule for error in (implicit, explicit)] == ["default", "default"]


def test_a_circle_of_causes_ends() -> None:
    first, second = Unknown(), Unknown()
    first.__cause__, second.__cause__ = second, first
    assert classify(first).rule == "default"


def test_of_a_group_the_gravest_member_decides() -> None:
    group = ExceptionGroup("g", [ConnectionResetError(), ExceptionGroup("h", [answer(429, retry_after="9")])])
    verdict = classify(group, now_ms=NOW)
    assert (verdict.kind, verdict.retry_after_ms) == (R, 9_000)
    assert classify(ExceptionGroup("g", [group, ValueError()])).kind is P
    assert classify(group, (Rule(ExceptionGroup).transient(),)).kind is T
    assert classify(
        ExceptionGroup("g", [CardDeclined(), OSError()]), (Rule(CardDeclined).permanent(Fail()),)
    ).outcome == (Fail())


def test_a_deep_group_ends() -> None:
    error: Exception = ValueError()
    for _ in range(500):
        members: list[Exception] = [error]
        error = ExceptionGroup("g", members)
    assert classify(error).rule == "default"


def test_an_error_with_hostile_attributes_is_judged_all_the_same() -> None:
    class Hostile(Exception):
        @property
        def code(self) -> str:
            raise RuntimeError("no")

    assert classify(Hostile(), (Rule(Hostile, code="x").permanent(),)).kind is R
    assert classify(stranger("grpc.RpcError", code=None)).kind is R
    assert classify(stranger("botocore.exceptions.ClientError", response=None)).kind is R


def test_the_verdict_names_what_decided() -> None:
    assert classify(KeyError()).rule == "LookupError"
    assert classify(httpx.ConnectError("x")).rule == "httpx.ConnectError"
    assert classify(CardDeclined(), (Rule(CardDeclined, code="").permanent(),)).rule == "Rule(CardDeclined, code='')"


def test_a_policy_classifies_by_its_own_rules() -> None:
    policy = RetryPolicy(Rule(CardDeclined).permanent(Park("payments")), attempts=8)
    assert policy.classify(CardDeclined()).outcome == Park("payments")
    assert policy.classify(httpx.ConnectTimeout("x")).kind is T


def test_unusable_rules_are_refused() -> None:
    with pytest.raises(UsageError, match="exception classes or their qualified names"):
        Rule(int)  # pyright: ignore[reportArgumentType] - what is tested
    with pytest.raises(UsageError, match="would match everything"):
        Rule()
    with pytest.raises(UsageError, match="does not say what it means"):
        RetryPolicy(Rule(ValueError))
    with pytest.raises(UsageError, match="not usable as a duration"):
        Rule(ValueError).recoverable(retry_after=-1)


# ---- recoveries


async def renew() -> None: ...


def test_a_rule_may_ask_for_a_recovery() -> None:
    verdict = classify(Unknown(), [Rule(Unknown).recoverable(Recover(renew, otherwise=Park("payments")))])
    assert (verdict.kind, verdict.outcome) == (R, Park())
    name = f"{__name__}.renew"
    assert verdict.recovery == Recovery(name, raises=False, reason="payments")
    failing = classify(Unknown(), [Rule(Unknown).recoverable(Recover(renew, otherwise=Fail()))])
    assert failing.recovery == Recovery(name, raises=True)


def test_of_a_group_the_recovery_of_the_gravest_counts() -> None:
    rules = [Rule(Unknown).recoverable(Recover(renew)), Rule(CardDeclined).permanent()]
    recoverable = classify(ExceptionGroup("two", [ConnectionError(), Unknown()]), rules)
    assert recoverable.recovery == Recovery(f"{__name__}.renew")
    assert classify(ExceptionGroup("two", [Unknown(), CardDeclined()]), rules).recovery is None


def test_a_recovery_may_wait_and_a_wait_is_said_once() -> None:
    rule = Rule(Unknown).recoverable(Recover(renew), retry_after=3)
    assert classify(Unknown(), [rule]).retry_after_ms == 3_000
    assert classify(Unknown(), [Rule(Unknown).recoverable(retry_after=2)]).retry_after_ms == 2_000
    with pytest.raises(UsageError, match="two waits for one rule: 2 and 3"):
        Rule(Unknown).recoverable(2, retry_after=3)


def test_a_rule_with_another_meaning_forgets_its_recovery() -> None:
    assert Rule(Unknown).recoverable(Recover(renew)).transient().recover is None
