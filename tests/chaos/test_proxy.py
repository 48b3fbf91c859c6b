"""The fault proxy does what it is told, and counts it."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.proxy import Cut, FaultProxy, Weather


class Echo(socketserver.ThreadingTCPServer):
    """Answers each line with itself; remembers what reached it."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _EchoHandler)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", int(self.server_address[1])


class _EchoHandler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Echo)
        with contextlib.suppress(ConnectionError):  # the proxy broke it, as it was told
            while piece := self.connection.recv(65_536):
                self.server.seen.append(piece)
                self.connection.sendall(piece)


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server whose answer is the request."""
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    """A proxy before it."""
    with FaultProxy(echo.address) as running:
        yield running


@pytest.fixture
def connect(proxy: FaultProxy) -> Iterator[Callable[[], socket.socket]]:
    """Make client connections through the proxy."""
    made: list[socket.socket] = []

    def make() -> socket.socket:
        link = socket.create_connection(("127.0.0.1", proxy.port), timeout=2)
        made.append(link)
        return link

    yield make
    for link in made:
        link.close()


def ask(link: socket.socket, text: bytes) -> bytes:
    """One request and its answer."""
    link.sendall(text)
    return link.recv(65_536)


def broken(link: socket.socket) -> bytes:
    """What still came before the connection ended."""
    got = b""
    with contextlib.suppress(ConnectionError):  # a reset is an end too
        while piece := link.recv(65_536):
            got += piece
    return got


def eventually(look: Callable[[], object], what: str, within_s: float = 3) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + within_s
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def test_fair_weather_passes_everything_unchanged(connect: Callable[[], socket.socket], proxy: FaultProxy) -> None:
    link = connect()
    large = bytes(range(256)) * 2_000
    link.sendall(large)
    got = b""
    while len(got) < len(large):
        got += link.recv(65_536)
    assert got == large
    assert proxy.counts == {"connections": 1}


def test_delay_and_jitter_keep_the_order(connect: Callable[[], socket.socket], proxy: FaultProxy) -> None:
    link = connect()
    ask(link, b"first")
    proxy.set(Weather(delay_ms=60, jitter_ms=30))
    began = time.monotonic()
    for number in range(5):
        link.sendall(b"%d;" % number)
        time.sleep(0.005)  # so that the pieces stay pieces
    got = b""
    while len(got) < 10:
        got += link.recv(100)
    assert got == b"0;1;2;3;4;"
    assert time.monotonic() - began >= 0.12  # once there, once back
    assert proxy.counts["delayed requests"] >= 2


def test_throttle_takes_as_long_as_the_bytes_need(connect: Callable[[], socket.socket], proxy: FaultProxy) -> None:
    link = connect()
    ask(link, b"first")
    proxy.set(Weather(bytes_per_s=50_000))
    began = time.monotonic()
    link.sendall(bytes(5_000))
    got = 0
    while got < 5_000:
        got += len(link.recv(65_536))
    assert time.monotonic() - began >= 0.19  # 0.1 s each way


def test_a_held_request_arrives_late_though_its_client_has_gone(
    connect: Callable[[], socket.socket], proxy: FaultProxy, echo: Echo
) -> None:
    link = connect()
    ask(link, b"first")
    proxy.set(Weather(hold_requests=True))
    link.sendall(b"late")
    link.settimeout(0.1)
    with pytest.raises(TimeoutError):
        link.recv(10)
    link.close()
    eventually(lambda: proxy.counts["held requests"] == 1, "the request came to the proxy")
    assert echo.seen == [b"first"]
    assert proxy.connections() == [1]
    proxy.clear()
    eventually(lambda: echo.seen == [b"first", b"late"], "what was held arrived")
    eventually(lambda: proxy.connections() == [], "the connection ended behind it")


def test_a_held_reply_arrives_when_the_hole_is_gone(
    connect: Callable[[], socket.socket], proxy: FaultProxy, echo: Echo
) -> None:
    link = connect()
    ask(link, b"first")
    proxy.set(Weather(hold_replies=True))
    link.sendall(b"executed")
    eventually(lambda: echo.seen[-1] == b"executed", "the request passed")
    link.settimeout(0.1)
    with pytest.raises(TimeoutError):
        link.recv(10)
    link.settimeout(2)
    proxy.clear()
    assert link.recv(100) == b"executed"


def test_half_open_accepts_and_never_answers(
    connect: Callable[[], socket.socket], proxy: FaultProxy, echo: Echo
) -> None:
    proxy.set(Weather(half_open=True))
    link = connect()
    link.sendall(b"anybody?")
    link.settimeout(0.1)
    with pytest.raises(TimeoutError):
        link.recv(10)
    proxy.clear()
    assert ask(connect(), b"hello") == b"hello"
    assert echo.seen == [b"hello"]
    assert proxy.counts["half-open"] == 1


def test_refuse_refuses_new_connections_and_keeps_the_old(
    connect: Callable[[], socket.socket], proxy: FaultProxy
) -> None:
    link = connect()
    ask(link, b"first")
    proxy.set(Weather(refuse=True))
    with pytest.raises(ConnectionRefusedError):
        connect()
    assert ask(link, b"second") == b"second"
    proxy.clear()
    assert ask(connect(), b"third") == b"third"


@pytest.mark.parametrize(
    ("cut", "reached", "answered"),
    [
        (Cut.BEFORE, b"", b""),
        (Cut.MID_REQUEST, b"requ", b""),
        (Cut.AFTER, b"request!", b""),
        (Cut.MID_REPLY, b"request!", b"requ"),
    ],
)
def test_a_cut_breaks_one_request_where_it_says(
    cut: Cut, reached: bytes, answered: bytes, connect: Callable[[], socket.socket], proxy: FaultProxy, echo: Echo
) -> None:
    told: list[tuple[Cut, bytes]] = []
    proxy.on_cut = lambda where, request: told.append((where, request))
    other, link = connect(), connect()
    ask(other, b"x")
    proxy.cut(cut, match=b"req")
    assert ask(other, b"another") == b"another"
    assert proxy.outstanding() == 1
    link.sendall(b"request!")
    assert broken(link) == answered
    if reached:
        eventually(lambda: echo.seen[-1] == reached, "what passed before the cut arrived")
    else:
        assert echo.seen == [b"x", b"another"]
    assert ask(other, b"request again") == b"request again"
    assert proxy.counts[cut] == 1
    assert proxy.outstanding() == 0
    assert told == [(cut, b"request!")]


def test_one_connection_can_have_weather_of_its_own(connect: Callable[[], socket.socket], proxy: FaultProxy) -> None:
    first, second = connect(), connect()
    ask(first, b"1")
    ask(second, b"2")
    one, two = proxy.connections()
    proxy.set(Weather(hold_requests=True), connection=one)
    assert ask(second, b"passes") == b"passes"
    first.sendall(b"held")
    first.settimeout(0.1)
    with pytest.raises(TimeoutError):
        first.recv(10)
    assert proxy.reset(two) == 1
    assert broken(second) == b""
    with pytest.raises(LookupError):
        proxy.set(Weather(), connection=99)


def test_reset_breaks_all_and_new_ones_work(connect: Callable[[], socket.socket], proxy: FaultProxy) -> None:
    links = [connect() for _ in range(5)]
    for link in links:
        ask(link, b"x")
    assert proxy.reset() == 5
    assert all(broken(link) == b"" for link in links)
    eventually(lambda: proxy.connections() == [], "all are forgotten")
    assert ask(connect(), b"again") == b"again"
    assert proxy.counts["reset"] == 5


def test_a_client_whose_server_is_away_loses_its_connection(echo: Echo) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody answers there
        with (
            FaultProxy(("127.0.0.1", taken.getsockname()[1])) as proxy,
            socket.create_connection(("127.0.0.1", proxy.port), timeout=2) as link,
        ):
            assert broken(link) == b""
            assert proxy.counts["server away"] == 1
