"""`Wire`: whatever arrives, in whatever pieces, whoever has gone away: an answer reaches its own caller, or nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow_worker.store.redis import errors
from workflow_worker.store.redis.replies import pack
from workflow_worker.store.redis.wire import Wire

Reply = int | bytes | None | list["Reply"] | errors.RedisError

SAMPLES: list[tuple[bytes, Any]] = [
    (b"+OK\r\n", b"OK"),
    (b":-42\r\n", -42),
    (b"$5\r\nhe\r\no\r\n", b"he\r\no"),
    (b"$0\r\n\r\n", b""),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"*0\r\n", []),
    (b"*3\r\n:1\r\n*2\r\n$1\r\na\r\n*0\r\n$-1\r\n", [1, [b"a", []], None]),
    (b"$100000\r\n" + b"x" * 100_000 + b"\r\n", b"x" * 100_000),
]


class Recorder(asyncio.Transport):
    """Takes what is written; `aborted` once the wire gives up."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


def new_wire(on_message: Callable[[bytes], None] | None = None) -> tuple[Wire, Recorder]:
    transport = Recorder()
    wire = Wire(on_message)
    wire.connection_made(transport)
    return wire, transport


async def turn() -> None:
    await asyncio.sleep(0)


def encoded(reply: Any) -> bytes:
    match reply:
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(reply), reply)
        case None:
            return b"$-1\r\n"
        case errors.RedisError():
            return f"-{reply}\r\n".encode()
        case _:
            return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))


# --------------------------------------------------------------------------------------------------------- the replies


@pytest.mark.parametrize(("raw", "reply"), SAMPLES)
async def test_a_reply_split_at_every_byte(raw: bytes, reply: Any) -> None:
    for at in range(0, len(raw), max(1, len(raw) // 200)):
        wire, _ = new_wire()
        answer = wire.send(b"?", 5)
        wire.data_received(raw[:at])
        assert not answer.done()
        wire.data_received(raw[at:])
        assert await answer == reply
        wire.abort("over")


async def test_a_reply_byte_by_byte() -> None:
    wire, _ = new_wire()
    answers = [wire.send(b"?", 5) for _ in SAMPLES[:8]]
    for raw, _ in SAMPLES[:8]:
        for byte in raw:
            wire.data_received(bytes([byte]))
    assert [await answer for answer in answers] == [reply for _, reply in SAMPLES[:8]]
    wire.abort("over")


async def test_all_replies_in_one_piece() -> None:
    wire, _ = new_wire()
    answers = [wire.send(b"?", 5) for _ in SAMPLES]
    wire.data_received(b"".join(raw for raw, _ in SAMPLES))
    assert [await answer for answer in answers] == [reply for _, reply in SAMPLES]
    wire.abort("over")


async def test_errors_of_the_server_by_class_and_word() -> None:
    wire, _ = new_wire()
    lines = {
        "NOSCRIPT No matching script.": errors.NoScriptError,
        "OOM command not allowed": errors.OutOfMemoryError,
        "LOADING Redis is loading": errors.LoadingError,
        "NOPERM no": errors.NoPermissionError,
        "WRONGTYPE Operation": errors.ErrorReply,
        "": errors.ErrorReply,
    }
    for line, kind in lines.items():
        answer = wire.send(b"?", 5)
        wire.data_received(f"-{line}\r\n".encode())
        with pytest.raises(kind) as caught:
            await answer
        assert str(caught.value) == line
    assert wire.usable
    wire.abort("over")


async def test_an_error_inside_a_list_is_a_value() -> None:
    wire, _ = new_wire()
    answer = wire.send(b"?", 5)
    wire.data_received(b"*2\r\n:1\r\n-ERR inside \xff\r\n")
    number, error = await answer
    assert number == 1
    assert isinstance(error, errors.ErrorReply)
    wire.abort("over")


replies = st.recursive(
    st.integers(-(2**60), 2**60) | st.binary(max_size=40) | st.none(), lambda of: st.lists(of, max_size=4), max_leaves=8
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_answer_ever_reaches_another_caller(data: st.DataObject) -> None:
    """Calls, cancellations and pieces of the stream in any order; each reply carries the number of its call."""

    async def scenario() -> None:
        wire, transport = new_wire()
        answers: list[asyncio.Future[Any]] = []
        expected: list[Any] = []
        stream = b""
        for number in range(data.draw(st.integers(1, 12))):
            for step in data.draw(st.lists(st.sampled_from(["cancel", "feed", "turn"]), max_size=3)):
                if step == "cancel" and answers:
                    data.draw(st.sampled_from(answers)).cancel()
                elif step == "feed" and stream:
                    size = data.draw(st.integers(1, len(stream)))
                    wire.data_received(stream[:size])
                    stream = stream[size:]
                else:
                    await turn()
            answers.append(wire.send(pack(("GET", number)), 5))
            expected.append([number, data.draw(replies)])
            stream += encoded(expected[-1])
        while stream:
            size = data.draw(st.integers(1, len(stream)))
            wire.data_received(stream[:size])
            stream = stream[size:]
        await turn()
        for answer, reply in zip(answers, expected, strict=True):
            assert answer.cancelled() or answer.result() == reply
        assert b"".join(transport.written) == b"".join(pack(("GET", number)) for number in range(len(answers)))
        assert wire.usable
        assert wire.idle
        wire.abort("over")

    asyncio.run(scenario())


# ----------------------------------------------------------------------------------------------- streams that are wrong


@pytest.mark.parametrize("raw", [b":1\r\n:2\r\n", b"+OK\r\n+OK\r\n"])
async def test_a_reply_too_many_ends_the_connection(raw: bytes) -> None:
    wire, transport = new_wire()
    first = wire.send(b"?", 5)
    wire.data_received(raw)
    assert await first in (1, b"OK")
    assert (wire.usable, transport.aborted) == (False, True)
    with pytest.raises(errors.ConnectionFailed, match="nobody had asked"):
        await wire.send(b"?", 5)


async def test_what_a_server_says_before_it_closes_is_kept() -> None:
    wire, _ = new_wire()
    wire.data_received(b"-ERR max number of clients reached\r\n")
    with pytest.raises(errors.ConnectionFailed, match="max number of clients"):
        await wire.send(b"?", 5)


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*x\r\n", b"\x15\x03\x01\x00\x02\x02P", b"$-5\r\n"]
)
async def test_no_protocol_fails_all_that_wait(garbage: bytes) -> None:
    wire, transport = new_wire()
    answers = [wire.send(b"?", 5) for _ in range(3)]
    wire.data_received(garbage)
    for answer in answers:
        with pytest.raises(errors.ConnectionFailed, match="protocol"):
            await answer
    assert transport.aborted


async def test_a_close_in_the_middle_of_a_reply_fails_all_that_wait() -> None:
    wire, _ = new_wire()
    answers = [wire.send(b"?", 5) for _ in range(3)]
    wire.data_received(b":1\r\n$10\r\nhalf")
    wire.connection_lost(None)
    assert await answers[0] == 1
    for answer in answers[1:]:
        with pytest.raises(errors.ConnectionFailed, match="closed the connection"):
            await answer
    assert wire.closed.done()


async def test_a_broken_connection_says_why() -> None:
    wire, _ = new_wire()
    answer = wire.send(b"?", 5)
    wire.connection_lost(ConnectionResetError(104, "reset"))
    with pytest.raises(errors.ConnectionFailed, match=r"broke: .*reset"):
        await answer


# ------------------------------------------------------------------------------------------------------------ deadlines


async def test_silence_fails_everything_at_the_deadline_of_the_oldest() -> None:
    wire, transport = new_wire()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    answers = [wire.send(b"?", 0.05), wire.send(b"?", 0.05)]
    for answer in answers:
        with pytest.raises(errors.NoAnswer, match="in time"):
            await answer
    assert 0.05 <= loop.time() - begin < 0.5
    assert transport.aborted


async def test_answers_that_keep_coming_keep_the_connection() -> None:
    """Each call has its own deadline: one connection's timer must not end the calls after the first."""
    wire, _ = new_wire()
    loop = asyncio.get_running_loop()
    for _ in range(4):
        answer = wire.send(b"?", 0.2)
        loop.call_later(0.1, wire.data_received, b":1\r\n")
        assert await answer == 1
    assert wire.usable
    wire.abort("over")


async def test_a_shorter_deadline_after_a_longer_one() -> None:
    wire, _ = new_wire()
    wire.send(b"?", 60)
    wire.data_received(b":1\r\n")
    with pytest.raises(errors.NoAnswer):
        await wire.send(b"?", 0.03)


async def test_a_loop_that_stood_still_does_not_blame_the_server() -> None:
    """libuv runs timers before it reads sockets: the answer lies there, and the deadline is long over."""
    wire, _ = new_wire()
    answer = wire.send(b"?", 0.02)
    loop = asyncio.get_running_loop()
    until = loop.time() + 0.1
    while loop.time() < until:
        pass
    await turn()  # the timer runs
    loop.call_soon(wire.data_received, b":7\r\n")  # then what had been lying in the socket is read
    assert await answer == 7
    wire.abort("over")


async def test_no_deadline_at_all() -> None:
    wire, _ = new_wire()
    answer = wire.send(b"?", None)
    wire.data_received(b":1\r\n")
    assert await answer == 1
    wire.abort("over")


# -------------------------------------------------------------------------------------------------------------- writing


async def test_the_calls_of_one_turn_share_a_write() -> None:
    wire, transport = new_wire()
    for number in range(5):
        wire.send(b"%d" % number, 5)
    wire.send_all([b"a", b"b"], 5)
    assert transport.written == []
    await turn()
    assert transport.written == [b"01234ab"]
    wire.send(b"5", 5)
    await turn()
    assert transport.written[1:] == [b"5"]
    wire.abort("over")


@pytest.mark.parametrize("cancelled", range(4))
async def test_a_call_cancelled_before_it_is_written_still_has_its_place(cancelled: int) -> None:
    wire, transport = new_wire()
    answers = [wire.send(b"%d" % number, 5) for number in range(4)]
    answers[cancelled].cancel()
    await turn()
    assert transport.written == [b"0123"]
    wire.data_received(b":0\r\n:1\r\n:2\r\n:3\r\n")
    assert [answer.result() for answer in answers if not answer.cancelled()] == [n for n in range(4) if n != cancelled]
    wire.abort("over")


async def test_nothing_is_written_after_the_end() -> None:
    wire, transport = new_wire()
    waiting = wire.send(b"?", 5)
    wire.abort("enough")
    await turn()
    assert transport.written == []
    for answer in (waiting, wire.send(b"?", 5), *wire.send_all([b"?"], 5)):
        with pytest.raises(errors.ConnectionFailed, match="enough"):
            await answer


# ---------------------------------------------------------------------------------------------------- other primaries


@pytest.mark.parametrize(
    "line",
    [
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down",
        "NOAUTH Authentication required.",
        "NOREPLICAS Not enough good replicas to write.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write against a read only",
    ],
)
async def test_a_server_that_is_no_primary_any_more_gets_no_new_calls(line: str) -> None:
    wire, transport = new_wire()
    first, second = wire.send(b"?", 5), wire.send(b"?", 5)
    wire.data_received(f"-{line}\r\n".encode())
    with pytest.raises(errors.RedisError):
        await first
    assert (wire.usable, transport.aborted) == (False, False), "what is under way is still answered"
    wire.data_received(b":2\r\n")
    assert await second == 2
    assert transport.aborted


@pytest.mark.parametrize("line", ["LOADING x", "BUSY x", "OOM x", "MISCONF x", "TRYAGAIN x", "ERR x"])
async def test_errors_that_pass_keep_the_connection(line: str) -> None:
    wire, transport = new_wire()
    answer = wire.send(b"?", 5)
    wire.data_received(f"-{line}\r\n".encode())
    with pytest.raises(errors.RedisError, match=line):
        await answer
    assert (wire.usable, transport.aborted) == (True, False)
    wire.abort("over")


async def test_messages_of_a_channel_answer_no_call() -> None:
    messages: list[bytes] = []
    wire, _ = new_wire(messages.append)
    subscribed = wire.send(b"SUBSCRIBE", 5)
    wire.data_received(encoded([b"subscribe", b"c", 1]) + encoded([b"message", b"c", b"one"]))
    pong = wire.send(b"PING", 5)
    wire.data_received(encoded([b"message", b"c", b"two"]) + encoded([b"pong", b""]))
    assert await subscribed == [b"subscribe", b"c", 1]
    assert await pong == [b"pong", b""]
    assert messages == [b"one", b"two"]
    wire.abort("over")
