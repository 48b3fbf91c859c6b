"""What an error means: later, the operator, or the script."""

from __future__ import annotations

import ssl

import pytest

from workflow_worker.model.exceptions import ConfigurationError, Refused, StoreUnavailable
from workflow_worker.store.redis import errors
from workflow_worker.store.redis.failures import refuses_writes, translate, translate_at_work, unavailable
from workflow_worker.store.redis.replies import error_reply

LATER = [
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "NOREPLICAS",
    "OOM",
    "BUSY",
    "MISCONF",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "UNBLOCKED",
]
OPERATORS = ["NOAUTH", "WRONGPASS", "NOPERM", "DENIED", "MOVED", "ASK", "CROSSSLOT"]


@pytest.mark.parametrize("word", LATER)
def test_words_that_mean_later(word: str) -> None:
    for text in (f"{word} and so on", f"ERR Error running script (call to f_1): @user_script:1: -{word} and so on"):
        meaning = translate(error_reply(text))
        assert isinstance(meaning, StoreUnavailable)
        assert word in str(meaning)


@pytest.mark.parametrize("word", OPERATORS)
def test_words_that_mean_the_operator_and_an_outage_for_who_was_at_work(word: str) -> None:
    error = error_reply(f"{word} and so on")
    assert isinstance(translate(error), ConfigurationError)
    at_work = translate_at_work(error)
    assert isinstance(at_work, StoreUnavailable)
    assert word in str(at_work)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (errors.AuthenticationError("x"), "password"),
        (errors.NoAnswer("x"), "in time"),
        (TimeoutError(), "in time"),
        (ConnectionRefusedError(111, "refused"), "connection refused"),
        (FileNotFoundError(2, "no such socket"), "connection refused"),
        (errors.ConnectionFailed("redis://u:hunter2@h broke"), "connection failed"),
        (errors.ErrorReply("ERR max number of clients reached"), "maxclients"),
        (errors.ErrorReply("ERR DB index is out of range"), "REDIS_URL"),
    ],
)
def test_errors_of_any_maker(error: Exception, word: str) -> None:
    meaning = unavailable(error)
    assert word in str(meaning)
    assert "hunter2" not in str(meaning)


def test_a_certificate_that_is_not_trusted_is_the_operators() -> None:
    error = ssl.SSLCertVerificationError(1, "verify failed")
    error.verify_message = "self-signed certificate"
    assert isinstance(unavailable(error), ConfigurationError)
    assert "self-signed" in str(unavailable(error))


def test_errors_that_are_the_scripts() -> None:
    for error in (errors.ErrorReply("WRONGTYPE Operation against a key"), error_reply("ERR user_script:1: x")):
        assert unavailable(error) is None
        assert isinstance(translate(error), Refused)
        assert isinstance(translate_at_work(error), Refused)
    assert unavailable(ValueError("x")) is None


def test_servers_that_take_no_writes() -> None:
    assert all(refuses_writes(error_reply(f"{word} x")) for word in ("READONLY", "OOM", "NOREPLICAS", "MISCONF"))
    assert not any(refuses_writes(error_reply(f"{word} x")) for word in ("LOADING", "BUSY", "ERR", "NOAUTH"))
