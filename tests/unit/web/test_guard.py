"""Who may ask what, and what of an event's body is refused."""

from __future__ import annotations

import json

import pytest

from workflow_worker.client.outgoing import Item, outgoing
from workflow_worker.model.exceptions import ConfigurationError, EventRejected, UsageError
from workflow_worker.model.settings import Settings
from workflow_worker.web.bodies import read_event
from workflow_worker.web.guard import Guard, Scope, is_loopback

TOKEN = "t0ken"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def guard(host: str, token: str | None = TOKEN) -> Guard:
    return Guard(Settings.from_mapping({"HOST": host} | ({"API_TOKEN": token} if token else {})))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org"])
def test_an_open_address_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigurationError, match="API_TOKEN"):
        guard(host, None)
    assert not guard(host).local


@pytest.mark.parametrize(
    ("host", "token", "scope", "headers", "allowed"),
    [
        ("127.0.0.1", None, Scope.OPERATE, {}, True),
        ("127.0.0.1", TOKEN, Scope.READ, {}, True),
        ("127.0.0.1", TOKEN, Scope.OPERATE, {}, False),
        ("127.0.0.1", None, Scope.DATA, {}, True),
        ("127.0.0.1", TOKEN, Scope.DATA, {}, False),
        ("127.0.0.1", TOKEN, Scope.DATA, BEARER, True),
        ("0.0.0.0", TOKEN, Scope.DATA, {}, False),
        ("127.0.0.1", TOKEN, Scope.OPERATE, BEARER, True),
        ("0.0.0.0", TOKEN, Scope.STATUS, {}, True),
        ("0.0.0.0", TOKEN, Scope.READ, {}, False),
        ("0.0.0.0", TOKEN, Scope.READ, BEARER, True),
        ("0.0.0.0", TOKEN, Scope.OPERATE, {"authorization": "Bearer t0ke"}, False),
        ("0.0.0.0", TOKEN, Scope.OPERATE, {"authorization": f"Basic {TOKEN}"}, False),
        ("0.0.0.0", TOKEN, Scope.OPERATE, {"authorization": "Bearer "}, False),
        ("0.0.0.0", TOKEN, Scope.OPERATE, {"authorization": "Bearer é"}, False),
    ],
)
def test_scopes(host: str, token: str | None, scope: Scope, headers: dict[str, str], allowed: bool) -> None:
    assert guard(host, token).allows(scope, headers) is allowed


@pytest.mark.parametrize(
    ("method", "headers", "refused"),
    [
        ("GET", {"host": "127.0.0.1:4000"}, False),
        ("GET", {"host": "localhost:4000"}, False),
        ("GET", {"host": "[::1]:4000"}, False),
        ("GET", {"host": "evil.example:4000"}, True),
        ("GET", {"host": "127.0.0.1.evil.example"}, True),
        ("GET", {}, True),
        ("GET", {"host": "["}, True),
        ("POST", {"host": "localhost:4000", "origin": "http://["}, True),
        ("POST", {"host": "localhost:4000", "origin": "http://localhost:4000"}, False),
        ("POST", {"host": "localhost:4000", "origin": "http://evil.example"}, True),
        ("POST", {"host": "localhost:4000", "origin": "null"}, True),
        ("GET", {"host": "localhost:4000", "origin": "http://evil.example"}, False),
    ],
)
def test_a_strangers_page(method: str, headers: dict[str, str], refused: bool) -> None:
    assert (guard("127.0.0.1").refusal_of(method, headers) is not None) is refused
    assert guard("0.0.0.0").refusal_of(method, headers) is None


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("LOCALHOST", True), ("0.0.0.0", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_an_event_is_read() -> None:
    body = {"specversion": "1.0", "id": "e1", "type": "a.b", "subject": "s", "source": "/x", "data": {"n": [1, "é"]}}
    event = read_event(json.dumps({**body, "datacontenttype": "application/json"}).encode())
    assert (event.id, event.type, event.subject, event.source) == ("e1", "a.b", "s", "/x")
    assert json.loads(event.data) == {"n": [1, "é"]}
    least = read_event(b'{"type":"a"}')
    assert (least.id, least.data) == ("", b"null")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"type":""}',
        b'{"type":7}',
        b'{"type":"wf.cancel"}',
        b'{"type":"a b"}',
        b'{"type":"a.*"}',
        b'{"type":"a","id":""}',
        b'{"type":"a","id":"%s"}' % (b"x" * 2_000),
        b'{"type":"a","specversion":"0.3"}',
        b'{"type":"a","data":{"x":}}',
        b'{"type":"a","data":"%s"}' % (b"x" * 1_000),
        b"[" * 100_000,
    ],
)
def test_an_event_is_refused_by_the_rules_of_every_producer(body: bytes) -> None:
    with pytest.raises((UsageError, EventRejected)):
        outgoing(Item(read_event(body)), lambda: "new", 1_000)
