"""`Recover`: what is done about an error before the action is tried again, and what follows when that fails too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from workflow_worker import App, Fail, Park, Recover, RetryPolicy, Rule, action, wf
from workflow_worker.model.exceptions import Refused, UsageError
from workflow_worker.model.record import ActionParked, AttemptFailed
from workflow_worker.model.run import RunStatus
from workflow_worker.testing import TestEnv


class TokenExpired(Exception): ...


class NoEntry(Exception): ...


class World:
    """An outside world with a token that expires."""

    def __init__(self) -> None:
        self.valid = False
        self.done: list[str] = []
        self.keys: list[tuple[str, int, str]] = []

    def note(self, what: str) -> None:
        self.done.append(what)
        self.keys.append((action.name, action.attempt, action.idempotency_key))


@dataclass(frozen=True)
class Placed:
    order_id: str


PARKED = Park("payments")


class Shop:
    """An app whose action needs the token, with a policy of the test's."""

    def __init__(self, otherwise: Fail | Park = PARKED, refresh: RetryPolicy | None = None, **more: Any) -> None:
        self.world = world = World()
        self.app = app = App("shop")
        app.event("placed", subject="order_id")(Placed)

        @app.action(retry=refresh or RetryPolicy(attempts=2, initial=1, jitter="none"))
        async def refresh_token() -> None:
            world.note("refresh")
            world.valid = True

        policy = RetryPolicy(
            Rule(TokenExpired).recoverable(Recover(refresh_token, otherwise=otherwise)),
            Rule(ConnectionError).recoverable(),
            attempts=4,
            initial=10,
            jitter="none",
            **more,
        )

        @app.action(retry=policy)
        async def charge(order_id: str) -> str:
            world.note(f"charge {order_id}")
            if not world.valid:
                raise TokenExpired("too old")
            return f"paid-{order_id}"

        @app.workflow(on=Placed, id="order-{order_id}")
        async def fulfil(order: Placed) -> str:
            try:
                return await charge(order.order_id)
            except NoEntry as error:
                return f"{error} because of {error.__cause__!r}, {error.__notes__}"

        self.refresh_token, self.charge, self.fulfil = refresh_token, charge, fulfil


async def test_the_recovery_is_done_first_and_then_the_action_at_once() -> None:
    shop = Shop()
    async with TestEnv(shop.app) as env:
        run = await env.publish(Placed("1"))
        await env.until(run, status=RunStatus.COMPLETED)
        assert await run.result() == "paid-1"
        assert shop.world.done == ["charge 1", "refresh", "charge 1"]
        assert env.now.timestamp() - run.view.started_at / 1000 < 0.1
        [failed] = [record for record in run.records if isinstance(record, AttemptFailed)]
        assert failed.recovery is not None
        assert (failed.attempt, failed.recovery.action, failed.recovery.attempts) == (1, "refresh_token", 0)
        assert run.attempts(shop.refresh_token) == 1


async def test_each_has_its_own_count_and_key() -> None:
    shop = Shop()
    async with TestEnv(shop.app) as env:
        run = await env.publish(Placed("1"))
        await env.until(run, status=RunStatus.COMPLETED)
    (first, one, key), (second, two, other), (third, three, again) = shop.world.keys
    assert (first, one, second, two, third, three) == ("charge", 1, "refresh_token", 1, "charge", 2)
    assert other == f"{key}/recovery-1"
    assert again == key


async def test_a_second_recovery_of_a_step_waits_like_any_retry() -> None:
    shop = Shop()
    async with TestEnv(shop.app) as env:
        env.fake(shop.refresh_token, returns=None)  # it says that it went well, and does not help
        run = await env.publish(Placed("1"))
        await env.until(run, status=RunStatus.SUSPENDED)
        assert run.attempts(shop.charge) == 4
        assert run.attempts(shop.refresh_token) == 3
        dues = [record.due - record.at for record in run.records if isinstance(record, AttemptFailed)]
        assert dues == [0, 40_000, 160_000]


async def test_a_recovery_is_tried_again_by_its_own_policy_and_uses_up_no_attempt_of_the_action() -> None:
    shop = Shop()
    async with TestEnv(shop.app) as env:
        env.fake(
            shop.refresh_token, raises=[ConnectionError("no way")], answer=lambda: setattr(shop.world, "valid", True)
        )
        run = await env.publish(Placed("1"))
        await env.until(run, status=RunStatus.COMPLETED)
        assert run.attempts(shop.refresh_token) == 2
        assert run.attempts(shop.charge) == 2
        first, second = [record for record in run.records if isinstance(record, AttemptFailed)]
        assert (first.name, second.name, first.attempt, second.attempt) == ("charge", "charge", 1, 1)
        assert second.recovery is not None
        assert second.recovery.attempts == 1
        assert "no way" in second.failure.message


async def test_a_recovery_that_fails_for_good_parks_the_run_as_its_rule_says() -> None:
    shop = Shop()
    async with TestEnv(shop.app) as env:
        env.fake(
            shop.refresh_token, raises=[NoEntry("locked out")] * 2, answer=lambda: setattr(shop.world, "valid", True)
        )
        run = await env.publish(Placed("1"))
        await env.until(run, status=RunStatus.SUSPENDED)
        parked = run.records[-1]
        assert isinstance(parked, ActionParked)
        assert (parked.name, parked.reason, parked.attempts) == ("charge", "payments", 1)
        assert parked.failure.message == "recovery refresh_token of charge failed: locked out"
        assert parked.failure.cause is not None
        assert parked.failure.cause.message == "too old"
        # A person lets it go on: the action is tried first, and asks for its recovery again.
        await run.resume("unlocked")
        await env.until(run, status=RunStatus.COMPLETED)
        assert run.attempts(shop.charge) == 3
        assert run.attempts(shop.refresh_token) == 3


async def test_or_raises_its_error_at_the_await() -> None:
    shop = Shop(otherwise=Fail())
    async with TestEnv(shop.app) as env:
        env.fake(shop.refresh_token, raises=NoEntry("locked out"))
        run = await env.publish(Placed("1"))
        await env.until(run, status=RunStatus.COMPLETED)
        assert await run.result() == (
            "locked out because of TokenExpired('too old'), ['raised by refresh_token, which was to recover charge']"
        )


async def test_errors_of_the_last_attempt_are_not_recovered_from() -> None:
    shop = Shop(exhausted=Park("nobody"))
    async with TestEnv(shop.app) as env:
        env.fake(shop.charge, raises=TokenExpired("always"))
        run = await env.publish(Placed("1"))
        await env.until(run, status=RunStatus.SUSPENDED)
        assert (run.attempts(shop.charge), run.attempts(shop.refresh_token)) == (4, 3)
        parked = run.records[-1]
        assert isinstance(parked, ActionParked)
        assert parked.reason == "nobody"


async def test_a_crash_anywhere_loses_no_recovery() -> None:
    shop = Shop()
    async with TestEnv(shop.app, paranoid=True) as env:
        env.fake(shop.refresh_token, raises=[ConnectionError("x")], then_returns=None)
        env.fake(shop.charge, raises=[TokenExpired("x")], then_returns="paid")
        plays = 0
        async for run in env.crash_everywhere(Placed("1")):
            plays += 1
            await env.until(run, status=RunStatus.COMPLETED)
            assert await run.result() == "paid"
            names = [call.action for call in run.calls()]
            assert names[-2:] == ["refresh_token", "charge"]
        assert plays >= 4


async def test_a_worker_that_dies_behind_a_recovery_does_it_again() -> None:
    shop = Shop()
    async with TestEnv(shop.app) as env:
        env.fake(shop.refresh_token, hangs=True)
        run = await env.publish(Placed("1"))
        await env.crash()
        env.fake(shop.refresh_token, answer=lambda: setattr(shop.world, "valid", True))
        await env.crash()
        await env.until(run, status=RunStatus.COMPLETED)
        assert run.attempts(shop.refresh_token) >= 3
        assert run.attempts(shop.charge) == 2


async def test_a_recovery_has_a_time_limit_of_its_own() -> None:
    shop = Shop()
    app = shop.app
    hurried = shop.charge.using(timeout=1)

    @app.workflow()
    async def quick() -> str:
        return await hurried("9")

    async with TestEnv(app) as env:
        env.fake(shop.refresh_token, hangs=True)
        run = await env.start(quick, id="q")
        await env.advance(timedelta(minutes=5))
        assert run.status is RunStatus.RUNNING
        await env.advance(timedelta(minutes=6))
        failures = [record.failure.message for record in run.records if isinstance(record, AttemptFailed)]
        assert "refresh_token ran longer than its limit of 600 s" in failures[-1]


async def test_it_gets_the_arguments_that_it_asks_for() -> None:
    app, seen = App("shop"), list[object]()

    def unlock(customer: str, *, hard: bool = True) -> None:  # a plain function, run in a thread
        seen.append((customer, hard, action.name))

    policy = RetryPolicy(Rule(TokenExpired).recoverable(Recover(unlock)), jitter="none")

    @app.action(retry=policy)
    async def charge(order_id: str, customer: str = "ann") -> str:
        if not seen:
            raise TokenExpired
        return order_id

    @app.workflow()
    async def pay(order_id: str) -> str:
        return await charge(order_id)

    async with TestEnv(app) as env:
        run = await env.start(pay, "o-1", id="p")
        await env.until(run, status=RunStatus.COMPLETED)
        assert seen == [("ann", True, unlock.__module__ + "." + unlock.__qualname__)]


async def test_a_recovery_is_not_recovered_from() -> None:
    app = App("shop")

    async def refresh() -> None:
        raise TokenExpired("still")

    app.retry = RetryPolicy(
        Rule(TokenExpired).recoverable(Recover(refresh, otherwise=Park("token"))), jitter="none", attempts=3
    )

    @app.action
    async def charge() -> None:
        raise TokenExpired("first")

    @app.workflow()
    async def pay() -> None:
        await charge()

    async with TestEnv(app) as env:
        run = await env.start(pay, id="p")
        await env.until(run, status=RunStatus.SUSPENDED)
        assert run.attempts(charge) == 1
        parked = run.records[-1]
        assert isinstance(parked, ActionParked)
        assert parked.reason == "token"


async def test_in_a_saga_the_given_up_step_is_undone_with_an_unknown_result() -> None:
    shop = Shop()
    app, undone = shop.app, list[object]()

    @shop.charge.compensation
    async def refund(order_id: str, *, result: str | None) -> None:
        undone.append((order_id, result))

    @app.workflow()
    async def careful() -> None:
        async with wf.saga():
            await shop.charge("7")

    async with TestEnv(app) as env:
        env.fake(shop.refresh_token, hangs=True)
        run = await env.start(careful, id="c")
        await run.cancel()
        await env.until(run, status=RunStatus.CANCELLED)
        assert undone == [("7", None)]


@pytest.mark.parametrize("how", ["raised", "parked"])
async def test_in_a_saga_a_permanent_error_of_a_recovery_does_not_say_that_the_action_did_not_happen(how: str) -> None:
    hopeless = RetryPolicy(Rule(NoEntry).permanent(Fail()))
    shop = Shop(otherwise=Fail() if how == "raised" else PARKED, refresh=hopeless)
    app, undone = shop.app, list[object]()

    @shop.charge.compensation
    async def refund(order_id: str, *, result: str | None) -> None:
        undone.append((order_id, result))

    @app.workflow
    async def careful() -> None:
        async with wf.saga():
            await shop.charge("7")

    async with TestEnv(app) as env:
        env.fake(shop.refresh_token, raises=NoEntry("locked out"))
        run = await env.start(careful, id="c")
        assert run.status is RunStatus.SUSPENDED
        if how == "parked":
            await run.cancel()
            assert run.status is RunStatus.CANCELLED
        assert undone == [("7", None)]


async def test_a_recovery_whose_code_is_gone_leaves_the_rest_to_a_person() -> None:
    shop = Shop()
    async with TestEnv(shop.app) as env:
        env.fake(shop.refresh_token, hangs=True)
        run = await env.publish(Placed("1"))
        gone = Shop()
        actions = gone.app._actions  # pyright: ignore[reportPrivateUsage] - as a release without it has them
        del actions["refresh_token"]
        actions["charge"] = replace(actions["charge"], retry=None)
        env._engine.app = gone.app  # pyright: ignore[reportPrivateUsage] - a worker with other code takes over
        await env.crash()
        await env.until(run, status=RunStatus.SUSPENDED)
        with pytest.raises(Refused, match="recovery 'refresh_token' is not registered"):
            await run.result()


@pytest.mark.parametrize("step", [None, 5, TokenExpired, lambda: None])
def test_what_is_no_function_with_a_name_is_refused(step: Any) -> None:
    with pytest.raises(UsageError, match="Recover takes"):
        Recover(step)


@pytest.mark.parametrize("given", [None, Park, "payments"])
def test_an_outcome_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="otherwise="):
        Recover(World.note, otherwise=given)


def test_a_recovery_that_needs_what_the_action_does_not_have_is_refused_at_once() -> None:
    app = App("shop")

    async def unlock(customer: str) -> None: ...

    policy = RetryPolicy(Rule(TokenExpired).recoverable(Recover(unlock)))
    with pytest.raises(UsageError, match="needs 'customer', which action 'charge'"):

        @app.action(retry=policy)
        async def charge(order_id: str) -> None: ...

    with pytest.raises(UsageError, match="in an app's policy"):
        App("other", retry=policy)
