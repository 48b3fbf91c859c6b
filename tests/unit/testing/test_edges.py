"""`TestEnv` where tests go wrong, and where actions are real: what leaks, what hides, what is said."""

from __future__ import annotations

import asyncio
import threading
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from workflow_worker import App, wf
from workflow_worker.model.exceptions import Refused, UsageError
from workflow_worker.model.run import RunStatus
from workflow_worker.runtime import nesting
from workflow_worker.testing import TestEnv

pytest_plugins = ["pytester"]
app = App("edges")


@app.event("asked", subject="what")
@dataclass(frozen=True)
class Asked:
    what: str
    port: int = 0


@app.event("told", subject="what")
@dataclass(frozen=True)
class Told:
    what: str


class Outlaw(BaseException):
    pass


@app.action
async def talk(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    text = await reader.read()
    writer.close()
    await writer.wait_closed()
    return text.decode().rpartition("\n")[2]


@app.action
def fetch(port: int) -> str:
    assert threading.current_thread() is not threading.main_thread()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        return answer.read().decode() + asyncio.run(asyncio.sleep(0, "!"))


@app.action
async def misbehave(how: str) -> None:
    raise {"exit": SystemExit(3), "outlaw": Outlaw("x"), "stop": StopAsyncIteration("s")}.get(how, KeyError(how))


@app.action
def misbehave_in_a_thread(how: str) -> None:
    raise {"exit": SystemExit(3), "outlaw": Outlaw("x"), "stop": StopIteration("s")}.get(how, KeyError(how))


@app.action
async def never() -> None:
    await asyncio.get_running_loop().create_future()


@app.workflow(on=Asked, id="{what}")
async def answer(asked: Asked) -> list[str]:
    match asked.what.partition("-")[0]:
        case "io":
            return list(await asyncio.gather(talk(asked.port), fetch(asked.port)))
        case "async":
            await misbehave(asked.what.partition("-")[2])
        case "thread":
            await misbehave_in_a_thread(asked.what.partition("-")[2])
        case "never":
            await never()
        case "wait":
            return [(await wf.wait_for(Told)).what]
        case _:
            raise ValueError(asked.what)
    return []


@app.workflow(on=Asked, id="also-{what}")
async def watch(asked: Asked) -> str:
    return (await wf.wait_for(Told)).what + "?"


async def test_actions_do_real_io_in_loop_and_threads() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, TestEnv(app, paranoid=True) as env:
        run = await env.start(answer, Asked("io", port), id="io")
        assert await run.result() == ["hello", "hello!"]
        async for play in env.crash_everywhere(Asked("io", port)):
            assert await env_of(play, "io").result() == ["hello", "hello!"]


def env_of(run: Any, id: str) -> Any:
    """The same play's run of `answer`."""
    return type(run)(run.app, run.engine, f"answer:{id}")


@pytest.mark.parametrize("how", ["exit", "outlaw", "stop", "key"])
@pytest.mark.parametrize("where", ["async", "thread"])
async def test_whatever_an_action_raises_is_its_error(where: str, how: str) -> None:
    async with TestEnv(app) as env:
        run = await env.start(answer, Asked(f"{where}-{how}"), id="x")
        await env.until(run, status=RunStatus.SUSPENDED, within=timedelta(hours=1))
        with pytest.raises(Refused, match="needs a person"):
            await run.result()
        assert run.attempts(misbehave) + run.attempts(misbehave_in_a_thread) >= 1


async def test_the_same_time_in_every_zone() -> None:
    here = datetime(2030, 6, 1, 12, 0, 0, 7_000, tzinfo=timezone(timedelta(hours=-7)))
    async with TestEnv(app, now=here) as env:
        assert env.now == here
        assert env.now.tzinfo is UTC
        await env.advance(0.001)
        assert env.now - here == timedelta(milliseconds=1)
    with pytest.raises(UsageError, match="no time zone"):
        TestEnv(app, now=datetime(2030, 1, 1))


async def test_an_event_for_several_runs() -> None:
    async with TestEnv(app, paranoid=True) as env:
        await env.publish(Asked("wait"))
        assert sorted(run.ref for run in await env.runs()) == ["answer:wait", "watch:also-wait"]
        reached = await env.publish(Told("wait"), id="1")
        assert reached.ref in ("answer:wait", "watch:also-wait")
        assert await env.run(answer, "wait").result() == ["wait"]
        assert await env.run(watch, "also-wait").result() == "wait?"
        assert [run.id for run in await env.runs(answer, RunStatus.COMPLETED)] == ["wait"]


async def test_calls_at_the_same_time_take_turns() -> None:
    async with TestEnv(app) as env:
        names = [f"wait-{number}" for number in range(20)]
        await asyncio.gather(*[env.publish(Asked(name)) for name in names])
        await asyncio.gather(*[env.publish(Told(name)) for name in names], env.advance(5))
        assert [await env.run(answer, name).result() for name in names] == [[name] for name in names]


async def test_environments_side_by_side() -> None:
    async with TestEnv(app, paranoid=True) as one, TestEnv(app) as two:
        first, second = await asyncio.gather(one.publish(Asked("wait")), two.publish(Asked("wait")))
        await one.publish(Told("wait"))
        assert first.engine is not second.engine
        assert (one.run(answer, "wait").status, two.run(answer, "wait").status) == (
            RunStatus.COMPLETED,
            RunStatus.WAITING,
        )
        assert nesting.profile is None


async def test_a_client_that_waits_lets_time_pass() -> None:
    async with TestEnv(app) as env:
        run = await env.publish(Asked("wait"))
        handle = env.client.handle(answer, "wait")
        before = env.now
        with pytest.raises(TimeoutError, match="waiting"):
            await handle.result(timeout=30)
        assert timedelta(seconds=30) <= env.now - before < timedelta(seconds=30.01)
        with pytest.raises(AssertionError, match="nothing is due"):
            await handle.result()
        await env.client.publish(Told("wait"))
        assert await handle.result(timeout=5) == ["wait"]
        assert run.ref != ""


async def test_until_does_not_wait_for_a_run_that_cannot_move() -> None:
    async with TestEnv(app) as env:
        run = await env.start(answer, Asked("nonsense"), id="x")
        began = env.now
        with pytest.raises(AssertionError, match="is suspended"):
            await env.until(run, status=RunStatus.COMPLETED)
        assert env.now == began


async def test_an_app_of_a_test_function() -> None:
    own = App("own")

    @own.event("go")
    @dataclass(frozen=True)
    class Go:
        n: int

    @own.action
    def twice(go: Go) -> Go:
        return Go(2 * go.n)

    @own.workflow(on=Go)
    async def work(go: Go) -> Go:
        return await twice(go)

    async with TestEnv(own, paranoid=True) as env:
        run = await env.start(work, Go(4), id="g")
        assert await run.result() == Go(8)


async def test_an_error_in_the_block_is_the_error() -> None:
    tasks = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert asyncio.all_tasks() == tasks
    assert nesting.profile is None


async def break_off() -> None:
    async with TestEnv(app, paranoid=True) as env:
        env.fake(never, hangs=True)
        await env.start(answer, Asked("never"), id="n")
        raise ZeroDivisionError


def test_a_test_that_fails_has_one_error_and_leaks_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\nasyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n"
        "workflow_app = the_app:app\nfilterwarnings = error\n"
    )
    pytester.makepyfile(
        the_app="""
        import asyncio
        from dataclasses import dataclass
        from workflow_worker import App, wf

        app = App("a")

        @app.event("go", subject="name")
        @dataclass(frozen=True)
        class Go:
            name: str

        @app.action
        async def never() -> None:
            await asyncio.get_running_loop().create_future()

        @app.workflow(on=Go, id="{name}")
        async def work(go: Go) -> None:
            if go.name == "set":
                for each in {f"x-{n}" for n in range(20)}:
                    await wf.wait_for(Go, subject=each)
            await never()
        """,
        test_it="""
        import pytest
        from the_app import Go, never, work

        @pytest.mark.asyncio
        async def test_fails_in_the_middle(env):
            env.fake(never, hangs=True)
            await env.publish(Go("n"))
            await env.publish(Go("set"))
            assert 1 == 2, "the only error"

        @pytest.mark.asyncio
        async def test_passes(env):
            env.fake(never, hangs=True)
            run = await env.publish(Go("n"))
            assert run.attempts(never) == 1

        @pytest.mark.anyio
        async def test_anyio(env):
            env.fake(never, returns=None)
            assert await (await env.publish(Go("n"))).result() is None

        def test_sync(env):
            assert env.calls == []
        """,
        conftest="""
        import pytest

        @pytest.fixture
        def anyio_backend():
            return "asyncio"
        """,
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:randomly")
    result.assert_outcomes(passed=3, failed=1, errors=0)
    result.stdout.fnmatch_lines(["*the only error*"])
