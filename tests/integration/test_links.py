"""Connections to servers that answer late, by halves, wrongly or not at all; and to servers that go and come back."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import RunningServer, free_port, server_binary
from workflow_worker.model.exceptions import ConfigurationError, StoreUnavailable
from workflow_worker.store.redis import errors
from workflow_worker.store.redis.connection import connect, connect_blocking
from workflow_worker.store.redis.durable import DurableLink
from workflow_worker.store.redis.failures import translate

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, encryption: ssl.SSLContext | None = None) -> AsyncGenerator[str]:
    """A server of ours on a free port; its URL."""
    writers: set[asyncio.StreamWriter] = set()
    tasks: set[asyncio.Task[Any]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass  # the client has gone: what these servers are made for
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=encryption)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await server.wait_closed()


async def requests(reader: asyncio.StreamReader) -> AsyncGenerator[list[bytes]]:
    """The commands of a connection."""
    while line := await reader.readline():
        arguments: list[bytes] = []
        for _ in range(int(line[1:])):
            size = int((await reader.readline())[1:])
            arguments.append((await reader.readexactly(size + 2))[:-2])
        yield arguments


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each command with its last argument, in pieces of three bytes."""
    async for command in requests(reader):
        reply = b"$%d\r\n%s\r\n" % (len(command[-1]), command[-1])
        for at in range(0, len(reply), 3):
            writer.write(reply[at : at + 3])
            await writer.drain()
            await asyncio.sleep(0)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes everything and says nothing: a server whose machine has vanished, or that is frozen."""
    while await reader.read(1_000):
        pass


# ------------------------------------------------------------------------------------------------------ many callers


async def test_many_callers_each_get_their_own_answer_whoever_is_cancelled() -> None:
    async with serving(echo) as url:
        link = connect(url, name="")

        async def ask(number: int) -> tuple[int, bytes]:
            return number, await link.execute_command("ECHO", number)

        calls = [asyncio.ensure_future(ask(number)) for number in range(200)]
        for number, call in enumerate(calls):
            if number % 3 == 0:
                call.cancel()
            if number % 20 == 0:
                await asyncio.sleep(0)
        done = await asyncio.gather(*calls, return_exceptions=True)
        answered = [each for each in done if not isinstance(each, BaseException)]
        assert len(answered) >= 133
        assert all(answer == str(number).encode() for number, answer in answered)
        assert await link.execute_command("ECHO", "last") == b"last"
        await link.aclose()


@pytest.mark.parametrize("turns", range(12))
async def test_a_call_can_be_cancelled_in_every_turn_of_its_way(turns: int) -> None:
    """A worker ends by cancelling its parts: one that lives on, unaware, keeps the whole process from ending."""
    async with serving(silent) as url:
        link = connect(url)
        call = asyncio.ensure_future(link.execute_command("PING"))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        await link.aclose()


async def test_one_attempt_to_connect_serves_all_and_outlives_the_first_caller() -> None:
    accepted = 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await echo(reader, writer)

    async with serving(counting) as url:
        link = connect(url)
        first, *others = [asyncio.ensure_future(link.execute_command("ECHO", number)) for number in range(10)]
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.gather(*others) == [str(number).encode() for number in range(1, 10)]
        assert accepted == 1
        await link.aclose()


# ---------------------------------------------------------------------------------------------------- hostile servers


async def test_a_silent_server_costs_one_deadline_for_all_and_is_left() -> None:
    async with serving(silent) as url:
        link = connect(url, name="", timeout_s=0.1)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        calls = [link.execute_command("PING") for _ in range(50)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, errors.NoAnswer)
        assert loop.time() - begin < 1.0
        await link.aclose()


async def test_a_server_that_takes_connections_and_no_greeting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workflow_worker.store.redis.dialing.CONNECT_WITHIN_S", 0.1)
    async with serving(silent) as url:
        link = connect(url)
        with pytest.raises(errors.NoAnswer):
            await link.execute_command("PING")
        await link.aclose()


@pytest.mark.parametrize("sent", [b"", b":1", b"$10\r\nhalf", b"*2\r\n:1\r\n"])
async def test_a_server_that_closes_in_the_middle_of_an_answer(sent: bytes) -> None:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await anext(requests(reader))
        writer.write(sent)
        await writer.drain()

    async with serving(closing) as url:
        link = connect(url, name="")
        for _ in range(2):
            with pytest.raises(errors.ConnectionFailed):
                await link.execute_command("PING")
        await link.aclose()


async def test_a_server_that_breaks_off_after_any_byte() -> None:
    """Whoever's answer was whole has it, and nobody has another's."""
    answers = [b"*2\r\n:%d\r\n$3\r\n%03d\r\n" % (number, number) for number in range(6)]
    whole = b"".join(answers)

    async def breaking_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = requests(reader)
        for _ in answers:
            await anext(commands)
        writer.write(whole[:size])
        await writer.drain()

    async with serving(breaking_off) as url:
        for size in range(len(whole) + 1):
            link = connect(url, name="")
            calls = (link.execute_command("GET", number) for number in range(6))
            replies = await asyncio.gather(*calls, return_exceptions=True)
            complete = size // len(answers[0])
            assert replies[:complete] == [[number, b"%03d" % number] for number in range(complete)]
            assert all(isinstance(reply, errors.ConnectionFailed) for reply in replies[complete:])
            await link.aclose()


async def test_a_server_that_speaks_another_protocol() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with serving(web) as url:
        link = connect(url)
        with pytest.raises(errors.ConnectionFailed, match="protocol"):
            await link.execute_command("PING")
        await link.aclose()


async def test_closing_fails_what_is_under_way_and_what_comes_later() -> None:
    async with serving(silent) as url:
        link, other = connect(url, name=""), connect(url)
        waiting = asyncio.ensure_future(link.execute_command("PING"))
        connecting = asyncio.ensure_future(other.execute_command("PING"))
        await asyncio.sleep(0.02)
        await link.aclose()
        await other.aclose()
        for call in (waiting, connecting, link.execute_command("PING")):
            with pytest.raises(errors.ConnectionFailed, match="closed by its owner"):
                await call


# --------------------------------------------------------------------------------------------------- servers of our own


async def test_a_server_that_comes_back_is_found_again(tmp_path: Path) -> None:
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "s", port=free_port()) as server:
        link = connect(server.url)
        assert await link.execute_command("PING") == b"PONG"
        server.kill()
        failures = 0
        for _ in range(3):
            with pytest.raises((errors.RedisError, OSError)):
                await link.execute_command("PING")
            failures += 1
        server.start()
        assert await link.execute_command("PING") == b"PONG"
        assert failures == 3
        await link.aclose()


async def test_login_database_and_name_are_there_from_the_first_command(valkey: RunningServer) -> None:
    valkey.command("ACL", "SETUSER", "b", "on", ">hunter2", "~*", "&*", "+@all")
    url = f"unix://b:hunter2@{valkey.socket_path}?db=3"
    link = connect(url, name="a name\nwith lines")
    info = (await link.execute_command("CLIENT", "INFO")).decode()
    assert " user=b " in info
    assert " db=3 " in info
    assert " name=a-name-with-lines " in info
    await link.aclose()


async def test_a_user_that_may_not_name_its_connection_works(valkey: RunningServer) -> None:
    valkey.command("ACL", "SETUSER", "nameless", "on", ">hunter2", "~*", "+ping")
    link = connect(f"unix://nameless:hunter2@{valkey.socket_path}")
    assert await link.execute_command("PING") == b"PONG"
    await link.aclose()


async def test_a_full_server_is_said_to_be_full(tmp_path: Path) -> None:
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "s", maxclients=2) as server:
        links = [connect(server.url) for _ in range(3)]
        for link in links[:2]:
            await link.execute_command("PING")
        with pytest.raises((errors.RedisError, OSError)) as caught:
            await links[2].execute_command("PING")
        assert isinstance(translate(caught.value), StoreUnavailable)
        assert "maxclients" in str(translate(caught.value))
        await links[0].aclose()
        await links[1].aclose()
        assert await links[2].execute_command("PING") == b"PONG"
        await links[2].aclose()


async def test_a_database_that_is_not_there_is_the_operators(valkey: RunningServer) -> None:
    link = connect(f"{valkey.socket_url}?db=99")
    with pytest.raises(errors.RedisError) as caught:
        await link.execute_command("PING")
    assert isinstance(translate(caught.value), ConfigurationError)
    await link.aclose()


async def test_big_commands_and_replies(valkey: RunningServer) -> None:
    link = connect(valkey.url)
    big = bytes(range(256)) * 40_000
    assert await link.execute_command("SET", "big", big) == b"OK"
    answers = await asyncio.gather(
        *(link.execute_command("GET", "big") for _ in range(3)), link.execute_command("PING")
    )
    assert answers == [big, big, big, b"PONG"]
    await link.execute_command("DEL", "big")
    await link.aclose()


@pytest.mark.parametrize("value", [None, ["x"], object()])
async def test_what_is_no_argument_is_refused_and_sent_to_nobody(valkey: RunningServer, value: Any) -> None:
    link = connect(valkey.url)
    with pytest.raises(errors.DataError):
        await link.execute_command("SET", "x", value)
    assert await link.execute_command("PING") == b"PONG"
    await link.aclose()


async def test_closing_ends_also_what_is_under_way_on_a_connection_that_was_given_up(valkey: RunningServer) -> None:
    link, client = connect(valkey.url), connect(valkey.url)
    waiting = asyncio.ensure_future(link.execute_command("BLPOP", "never-filled", 4))
    await until_blocked(client, 1)
    link.reconnect()
    assert await link.execute_command("PING") == b"PONG"
    assert not waiting.done()
    await link.aclose()
    with pytest.raises(errors.ConnectionFailed, match="closed by its owner"):
        await waiting
    await client.aclose()


# ---------------------------------------------------------------------------------------------------- blocking commands


async def test_a_reader_that_was_given_up_takes_no_entry(valkey: RunningServer) -> None:
    """Else an entry would wake a reader that is not there, and nobody who is."""
    link, other = connect_blocking(valkey.url, 5_000), connect_blocking(valkey.url, 5_000)
    client = connect(valkey.url)
    await client.execute_command("DEL", "abandoned")
    first = asyncio.ensure_future(link.execute_command("BLPOP", "abandoned", 5))
    await until_blocked(client, 1)
    first.cancel()
    await asyncio.wait([first])
    second = asyncio.ensure_future(other.execute_command("BLPOP", "abandoned", 5))
    await until_blocked(client, 1)
    await client.execute_command("RPUSH", "abandoned", "x")
    assert await second == [b"abandoned", b"x"]
    for each in (link, other, client):
        await each.aclose()


def brought(value: str) -> asyncio.Future[str]:
    """Something that is there already."""
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future


def set_to(value: str) -> tuple[str, ...]:
    return ("SET", "followed", value, "GET")


@pytest.mark.parametrize("late", [False, True])
async def test_what_follows_a_blocking_command_is_executed_as_that_ends(valkey: RunningServer, late: bool) -> None:
    link, client = connect_blocking(valkey.url, 5_000), connect(valkey.url)
    await client.execute_command("DEL", "queue", "followed")
    then = asyncio.get_running_loop().create_future() if late else brought("1")
    waiting = asyncio.ensure_future(link.execute_followed(("BLPOP", "queue", 5), then, set_to))
    await until_blocked(client, 1)
    if late:
        then.set_result("1")
        await asyncio.sleep(0.02)
    assert await client.execute_command("GET", "followed") is None
    await client.execute_command("RPUSH", "queue", "x")
    assert await waiting == ([b"queue", b"x"], None)
    assert await client.execute_command("GET", "followed") == b"1"
    assert await link.execute_command("PING") == b"PONG"
    for each in (link, client):
        await each.aclose()


async def test_nothing_follows_where_nothing_came_in_time(valkey: RunningServer) -> None:
    link = connect_blocking(valkey.url, 5_000)
    then: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    assert await link.execute_followed(("BLPOP", "never-filled", 0.01), then, set_to) == (None, None)
    then.set_result("1")
    await asyncio.sleep(0)
    assert await link.execute_command("GET", "x") is None
    await link.aclose()


async def test_an_error_of_one_command_does_not_hide_the_other(valkey: RunningServer) -> None:
    link = connect_blocking(valkey.url, 5_000)
    first, second = await link.execute_followed(("NOSUCHCOMMAND",), brought("1"), lambda _: ("PING",))
    assert (isinstance(first, errors.ErrorReply), second) == (True, b"PONG")
    first, second = await link.execute_followed(("PING",), brought("1"), lambda _: ("EVALSHA", "0" * 40, 0))
    assert (first, isinstance(second, errors.NoScriptError)) == (b"PONG", True)
    await link.aclose()


async def test_a_pair_that_is_given_up_is_not_executed_when_the_first_would_have_ended(valkey: RunningServer) -> None:
    link, client = connect_blocking(valkey.url, 5_000), connect(valkey.url)
    await client.execute_command("DEL", "queue", "followed")
    waiting = asyncio.ensure_future(link.execute_followed(("BLPOP", "queue", 5), brought("1"), set_to))
    await until_blocked(client, 1)
    waiting.cancel()
    await asyncio.wait([waiting])
    await until_blocked(client, 0)
    await client.execute_command("RPUSH", "queue", "x")
    assert await client.execute_command("GET", "followed") is None
    assert await client.execute_command("LLEN", "queue") == 1
    for each in (link, client):
        await each.aclose()


async def test_a_pair_whose_connection_breaks_fails_once(tmp_path: Path) -> None:
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "s") as server:
        link, client = connect_blocking(server.url, 5_000), connect(server.url)
        waiting = asyncio.ensure_future(link.execute_followed(("BLPOP", "queue", 5), brought("1"), set_to))
        await until_blocked(client, 1)
        await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(errors.ConnectionFailed):
            await waiting
        for each in (link, client):
            await each.aclose()


async def test_blocking_commands_do_not_wait_for_each_other(valkey: RunningServer) -> None:
    link, client = connect_blocking(valkey.url, 5_000), connect(valkey.url)
    waiting = asyncio.ensure_future(link.execute_command("BLPOP", "never-filled", 5))
    await until_blocked(client, 1)
    assert await link.execute_command("PING") == b"PONG"
    await link.aclose()
    with pytest.raises(errors.ConnectionFailed):
        await waiting
    await client.aclose()


async def until_blocked(client: Any, count: int) -> None:
    """Ask the server until so many clients are blocked at it."""
    async with asyncio.timeout(5):
        while b"blocked_clients:%d\r" % count not in await client.execute_command("INFO", "clients"):  # noqa: ASYNC110 - the server tells nobody by itself
            await asyncio.sleep(0.005)


# ------------------------------------------------------------------------------------------------------------- channels


async def test_messages_arrive_and_the_end_of_the_server_is_noticed(tmp_path: Path) -> None:
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "s") as server:
        link, client = connect_blocking(server.url), connect(server.url)
        async with aclosing(link.listen("c")) as messages:
            first = asyncio.ensure_future(anext(messages))
            async with asyncio.timeout(5):
                while not await client.execute_command("PUBLISH", "c", "hello"):  # noqa: ASYNC110 - nobody tells when the subscription is there
                    await asyncio.sleep(0.005)
            assert await first == b"hello"
            server.kill()
            with pytest.raises(errors.ConnectionFailed):
                await anext(messages)
        await link.aclose()
        await client.aclose()


async def test_a_channel_of_a_server_that_fell_silent_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscribed connection hears nothing for hours when all is well: only asking tells the difference."""
    monkeypatch.setattr("workflow_worker.store.redis.link._PING_EVERY_S", 0.05)
    monkeypatch.setattr("workflow_worker.store.redis.link._PONG_WITHIN_S", 0.1)

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = requests(reader)
        await anext(commands)
        writer.write(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n")
        await anext(commands)
        writer.write(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n")
        await silent(reader, writer)

    async with serving(once) as url:
        link = connect_blocking(url, name="")
        with pytest.raises(errors.NoAnswer):
            await anext(link.listen("c"))
        await link.aclose()


# ----------------------------------------------------------------------------------------------------------- durability


async def test_calls_that_wait_for_a_disk_wait_together(tmp_path: Path) -> None:
    """Each call is followed by a WAITAOF, and many calls by one: a hundred callers do not queue for a hundred syncs."""
    server = RunningServer(server_binary("valkey-9.1"), tmp_path / "s", appendonly=True, appendfsync="everysec")
    with server:
        link = connect(server.url)
        durable = DurableLink(link, ("WAITAOF", 1, 0, 2_000), 2_000)
        answers = await asyncio.gather(*(durable.execute_command("INCR", "n") for _ in range(100)))
        assert [reply for reply, _ in answers] == list(range(1, 101))
        assert all(reached[0] == 1 for _, reached in answers)
        stats: bytes = await link.execute_command("INFO", "commandstats")
        waits = next(line for line in stats.decode().splitlines() if line.startswith("cmdstat_waitaof:calls="))
        assert int(waits.partition("=")[2].partition(",")[0]) <= 3
        await link.aclose()


async def test_a_call_is_not_held_up_by_the_wait_of_the_one_before(valkey: RunningServer) -> None:
    link = connect(valkey.url)
    durable = DurableLink(link, ("WAIT", 1, 500), 500)
    first = asyncio.ensure_future(durable.execute_command("ECHO", "a"))
    await until_blocked(link, 1)
    second = asyncio.ensure_future(durable.execute_command("ECHO", "b"))
    await until_blocked(link, 2)
    assert not first.done()
    assert await asyncio.gather(first, second) == [(b"a", 0), (b"b", 0)]
    await link.aclose()


async def test_a_group_whose_connection_breaks_is_answered_to_nobody(tmp_path: Path) -> None:
    with RunningServer(server_binary("valkey-9.1"), tmp_path / "s") as server:
        link, client = connect(server.url), connect(server.url)
        durable = DurableLink(link, ("WAIT", 1, 5_000), 5_000)
        waiting = [asyncio.ensure_future(durable.execute_command("INCR", "n")) for _ in range(5)]
        await until_blocked(client, 1)
        server.command("CLIENT", "KILL", "TYPE", "normal")
        for answer in waiting:
            with pytest.raises(errors.ConnectionFailed):
                await answer
        assert server.command("GET", "n") == "$1", "written all the same: who repeats must be able to"
        again = asyncio.ensure_future(durable.execute_command("INCR", "n"))
        await client.aclose()  # its connection was killed too
        client = connect(server.url)
        await until_blocked(client, 1)
        await link.aclose()
        await client.aclose()
        with pytest.raises(errors.ConnectionFailed, match="closed by its owner"):
            await again


async def test_errors_of_one_call_in_a_group_are_its_own(valkey: RunningServer) -> None:
    link = connect(valkey.url)
    durable = DurableLink(link, ("WAIT", 0, 100), 100)
    wrong, right = await asyncio.gather(durable.execute_command("NO-SUCH"), durable.execute_command("PING"))
    assert isinstance(wrong[0], errors.ErrorReply)
    assert right == (b"PONG", 0)
    await link.aclose()
    with pytest.raises(errors.ConnectionFailed):
        await durable.execute_command("PING")


# ------------------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of our own authority for 127.0.0.1, and one for another host."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=authority", "-days", "2")
    for name, host in (("here", "IP:127.0.0.1"), ("elsewhere", "DNS:elsewhere.example")):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / f"{name}.ext").write_text(f"subjectAltName={host}\n")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing)
    return folder


@asynccontextmanager
async def encrypting(server: RunningServer, certificates: Path, name: str) -> AsyncGenerator[int]:
    """A TLS end in front of a server (the binaries here are built without); its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.crt"))
    context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
    context.verify_mode = ssl.CERT_OPTIONAL

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, front = await asyncio.open_unix_connection(str(server.socket_path))
        ways = [asyncio.ensure_future(forward(reader, front)), asyncio.ensure_future(forward(back, writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        front.close()

    async with serving(serve, context) as url:
        yield int(url.rpartition(":")[2])


async def test_tls_is_verified(certificates: Path, valkey: RunningServer) -> None:
    async with encrypting(valkey, certificates, "here") as port:
        trusted = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates}/ca.crt"
        mine = f"&ssl_certfile={certificates}/here.crt&ssl_keyfile={certificates}/here.key"
        for url in (trusted, trusted + mine, f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none"):
            link = connect(url)
            assert await link.execute_command("ECHO", "x" * 100_000) == b"x" * 100_000
            await link.aclose()
        link = connect(f"rediss://127.0.0.1:{port}")
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await link.execute_command("PING")
        meaning = translate(caught.value)
        assert isinstance(meaning, ConfigurationError)
        assert "certificate is not trusted" in str(meaning)
        plain = connect(f"redis://127.0.0.1:{port}")
        with pytest.raises(errors.ConnectionFailed):
            await plain.execute_command("PING")


async def test_a_file_that_is_not_there_is_the_operators(tmp_path: Path) -> None:
    link = connect(f"rediss://127.0.0.1:{free_port()}?ssl_ca_certs={tmp_path}/none.crt")
    with pytest.raises(errors.ConnectionFailed) as caught:
        await link.execute_command("PING")
    assert isinstance(translate(caught.value), ConfigurationError)


async def test_a_certificate_of_another_host_is_not_trusted(certificates: Path, valkey: RunningServer) -> None:
    async with encrypting(valkey, certificates, "elsewhere") as port:
        link = connect(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates}/ca.crt")
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await link.execute_command("PING")
        assert isinstance(translate(caught.value), ConfigurationError)
        other = connect(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificates}/ca.crt&ssl_check_hostname=no")
        assert await other.execute_command("PING") == b"PONG"
        await other.aclose()
