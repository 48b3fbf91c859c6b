"""Workflows: id templates, versions, routes; and what is refused with advice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, assert_type

import pytest

from tests.unit.app import shop
from workflow_worker import App, Event
from workflow_worker.app.events import EventCatalogue
from workflow_worker.app.workflows import Workflow
from workflow_worker.model.exceptions import EventRejected, UsageError
from workflow_worker.store.transitions import Route, StartRoute


@dataclass(frozen=True)
class Started:
    """Something began."""

    key: str
    id: str = ""


def app_of(subject: str | None = "key", *types: str) -> App:
    app = App("x")
    app.event(*(types or ("started",)), subject=subject)(dataclass(frozen=True)(type("Begun", (Started,), {})))
    return app


def begun(app: App) -> type:
    return app.events.definitions[0].event_class


async def nothing(event: Any) -> None:
    """A workflow that takes an event."""


@pytest.mark.parametrize(
    ("subject", "template", "parts"),
    [
        ("key", None, ()),
        ("key", "order-{key}", ("=order-", "subject")),
        ("key", "{subject}", ("subject",)),
        (None, "{subject}/{id}", ("subject", "=/", "id")),
        ("id", "{id}", ("subject",)),
        ("key", "{{{key}}}", ("={", "subject", "=}")),
    ],
)
def test_id_templates_are_literals_the_subject_and_the_events_id(
    subject: str | None, template: str | None, parts: tuple[str, ...]
) -> None:
    app = app_of(subject)
    definition = app.workflow(on=begun(app), id=template)(nothing).definition
    assert "".join(definition.template).replace("=", "") == "".join(parts).replace("=", "")
    assert definition.needs_subject == ("subject" in parts)


@pytest.mark.parametrize(
    ("subject", "template", "reason"),
    [
        ("key", "order-{total}", r"'\{total\}' cannot be used: possible are '\{key\}' or '\{subject\}'"),
        (None, "order-{key}", r"is it the subject\? Then declare @app.event\(…, subject='key'\)"),
        ("key", "order", "is the same for every event"),
        ("key", "", "is the same for every event"),
        ("key", "{key:>3}", "takes no format"),
        ("key", "{", "cannot be read"),
    ],
)
def test_other_templates_are_refused_saying_what_is_possible(subject: str | None, template: str, reason: str) -> None:
    app = app_of(subject)
    with pytest.raises(UsageError, match=reason):
        app.workflow(on=begun(app), id=template)(nothing)


def test_a_workflow_is_async_and_takes_exactly_its_event() -> None:
    app = app_of()

    def not_async(event: Any) -> None: ...

    async def two(event: Any, more: Any) -> None: ...

    async def none() -> None: ...

    async def by_name(*, event: Any) -> None: ...

    for wrong, reason in (
        (not_async, "async def"),
        (two, "exactly one"),
        (none, "exactly one"),
        (by_name, "exactly one"),
    ):
        with pytest.raises(UsageError, match=reason):
            app.workflow(on=begun(app))(wrong)  # pyright: ignore[reportArgumentType] - what is tested

    @app.event("forgotten")
    @dataclass(frozen=True)
    class Forgotten: ...

    async def forgot(event: Forgotten) -> None: ...

    async def starred(*events: int) -> None: ...

    with pytest.raises(UsageError, match="add on=ItsClass"):
        app.workflow()(forgot)
    with pytest.raises(UsageError, match="must have a name to be passed by"):
        app.workflow()(starred)
    with pytest.raises(UsageError, match="timeout=0"):
        app.workflow(timeout=0)(none)
    with pytest.raises(UsageError, match=r"'ww\.mine'.* is reserved"):
        app.workflow(name="ww.mine")(none)
    with pytest.raises(UsageError, match="has an id template and no `on=`"):
        app.workflow(id="{id}")(none)
    with pytest.raises(UsageError, match="not a declared event"):
        app.workflow(on=Started)
    for version in (0, -1, True, 10**9):
        with pytest.raises(UsageError, match="version="):
            app.workflow(version=version)(none)
    with pytest.raises(UsageError, match="on_existing"):
        app.workflow(on_existing="again")  # pyright: ignore[reportArgumentType] - what is tested
    with pytest.raises(UsageError, match="workflow name"):
        app.workflow(name="a:b")(none)
    assert app.workflows == ()


def test_versions_stand_side_by_side_and_the_same_one_twice_is_refused() -> None:
    versions = [shop.app.find_workflow("fulfil", version) for version in (1, 2, 3)]
    assert [each and each.place.rpartition(":")[0].endswith("shop.py") for each in versions] == [True, True, None]
    app = App("x")
    app.workflow()(done)
    with pytest.raises(UsageError, match=r"done@1 is declared twice: at .*py:\d+ and at .*py:\d+"):
        app.workflow()(done)


async def done() -> int:
    """A workflow that needs no event."""
    return 7


async def test_a_declared_workflow_keeps_its_types_and_can_be_called() -> None:
    workflow = App("x").workflow()(done)
    assert_type(workflow, Workflow[[], int])
    assert_type(workflow(), Coroutine[Any, Any, int]).close()
    assert await workflow() == 7
    assert (workflow.name, workflow.version, workflow.__doc__) == ("done", 1, "A workflow that needs no event.")


async def test_a_workflow_without_options_needs_no_parentheses() -> None:
    app = App("x")

    @app.workflow
    async def double(number: int) -> int:
        return 2 * number

    assert_type(App("y").workflow(done), Workflow[[], int])
    assert await double(4) == 8
    assert app.find_workflow("double", 1) is double.definition
    assert app.registration().routes["workflow-worker.start.double"] == Route(False, (StartRoute("double", 1),))


def test_an_event_class_without_its_name_is_told_how_to_write_it() -> None:
    app = app_of()
    misused: Any = app.workflow
    with pytest.raises(UsageError, match=r"@app.workflow\(on=Begun\)"):
        misused(begun(app))
    with pytest.raises(UsageError, match="goes above an `async def` function, not 'order'"):
        misused("order")


async def test_main_gives_the_function_its_decoded_event() -> None:
    app = app_of()
    seen: list[Any] = []

    @app.workflow(on=begun(app))
    async def look(event: Any) -> None:
        seen.append(event)

    event = Event("e-1", "started", "k", b'{"key": "k"}')
    main = look.definition.main(event, app.events)
    await main()
    assert seen == [begun(app)("k")]
    with pytest.raises(EventRejected, match="missing required field `key`"):
        look.definition.main(Event("e-2", "started"), app.events)
    assert await App("x").workflow()(done).definition.main(event, app.events)() == 7


def test_registration_starts_the_newest_version_and_knows_all() -> None:
    registration = shop.app.registration()
    start = StartRoute("fulfil", 2, ("=order-", "subject"))
    assert registration.routes == {
        "order.placed": Route(True, (start,)),
        "ww.start": Route(False, (StartRoute("fulfil", 2, restart=True),)),
        "ww.tick": Route(False, (StartRoute("fulfil", 2),)),
        "ww.lock": Route(False, (StartRoute("ww.lock", 1, restart=True),)),
        "workflow-worker.schedule.set": Route(False, (StartRoute("ww.schedule", 1, restart=True),)),
        "workflow-worker.schedule.told": Route(False),
        "workflow-worker.start.fulfil": Route(True, (start,)),
    }
    assert registration.knows == ("fulfil@1", "fulfil@2", "ww.lock@1", "ww.schedule@1")


def test_a_type_starts_only_the_workflows_of_its_own_class() -> None:
    app = App("x")
    for name, event_type in (("A", "shop.*"), ("B", "shop.eu.*"), ("C", "shop.eu.sold"), ("D", "shopping")):
        made = dataclass(frozen=True)(type(name, (Started,), {}))
        app.event(event_type)(made)
        app.workflow(on=made, name=name, on_existing="restart" if name == "B" else "ignore")(nothing)
    routes = app.registration().routes
    started = {event_type: [start.workflow for start in route.starts] for event_type, route in routes.items()}
    assert started.pop("ww.start") == ["A", "B", "C", "D"]
    assert started.pop("ww.tick") == ["A", "B", "C", "D"]
    assert started.pop("ww.lock") == ["ww.lock"]
    assert started.pop("workflow-worker.schedule.set") == ["ww.schedule"]
    assert started.pop("workflow-worker.schedule.told") == []
    assert [started.pop(f"workflow-worker.start.{name}") for name in "ABCD"] == [["A"], ["B"], ["C"], ["D"]]
    assert started == {"shop.*": ["A"], "shop.eu.*": ["B"], "shop.eu.sold": ["C"], "shopping": ["D"]}
    assert [start.restart for start in routes["shop.eu.*"].starts] == [True]
    assert [start.restart for start in routes["workflow-worker.start.B"].starts] == [True]
    assert not any(route.needs_subject for route in routes.values())


def test_the_mark_names_the_content() -> None:
    def mark(version: int, template: str | None, restart: bool = False) -> str:
        app = app_of()
        existing = "restart" if restart else "ignore"
        app.workflow(on=begun(app), id=template, version=version, on_existing=existing)(nothing)
        return app.registration().mark

    same = mark(1, None)
    assert mark(1, None) == same
    assert len({same, mark(2, None), mark(1, "{key}"), mark(1, None, True)}) == 4
    assert len(same) == 16


def test_an_event_that_starts_nothing_has_a_route_all_the_same() -> None:
    assert app_of("key").registration().routes == {"started": Route(True)}
    assert app_of(None).registration().routes == {"started": Route(False)}


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, workflow_worker; print([m for m in ('redis', 'uvloop', 'pydantic', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"


def test_a_workflow_without_an_event_takes_arguments_with_a_json_form() -> None:
    @App("x").workflow()
    async def move(what: str, boxes: list[int], *, fast: bool = False) -> str:
        return f"{what} {boxes} {fast}"

    def taken(data: bytes) -> Any:
        event = Event("e-1", "ww.start", data=data)
        coroutine = move.definition.main(event, EventCatalogue())()
        with pytest.raises(StopIteration) as returned:
            coroutine.send(None)
        return returned.value.value

    raw, subject = move.encode_input(("x", [1]), {"fast": True})
    assert (raw, subject) == (b'{"what":"x","boxes":[1],"fast":true}', None)
    assert taken(raw) == "x [1] True"
    for junk, reason in (
        (b'{"what":1,"boxes":[]}', "expected `str`"),
        (b'{"what":"x"}', "missing a required argument: 'boxes'"),
        (b'{"where":"x"}', "it takes no 'where'"),
        (b"[]", "expected `object`"),
        (b"", "missing a required argument: 'what'"),
    ):
        with pytest.raises(EventRejected, match=reason):
            taken(junk)
    with pytest.raises(UsageError, match=r"input of workflow 'move'.*unexpected keyword"):
        move.encode_input(("x", []), {"slow": True})


def test_a_child_of_an_event_workflow_is_started_with_the_event() -> None:
    app = app_of("key")
    workflow = app.workflow(on=begun(app))(nothing)
    assert workflow.encode_input((begun(app)("k-1"),), {}) == (b'{"key":"k-1","id":""}', "k-1")
    with pytest.raises(UsageError, match="is started with one"):
        workflow.encode_input((), {})
    with pytest.raises(UsageError, match="is not a"):
        workflow.encode_input(("k-1",), {})
    event = Event("e-1", "ww.start", "k-1", b'{"key": 5}')
    with pytest.raises(EventRejected, match="expected `str`"):
        workflow.definition.main(event, app.events)


def test_an_update_handler_takes_one_annotated_event() -> None:
    workflow = App("x").workflow()(done)

    async def two(first: Started, second: Started) -> None: ...

    async def bare(request: Any) -> None: ...

    def sync(request: Started) -> None: ...

    with pytest.raises(UsageError, match="goes above an `async def`"):
        workflow.update(sync)  # pyright: ignore[reportArgumentType, reportCallIssue] - what is tested
    for wrong in (two, bare):
        workflow.update(wrong)
        with pytest.raises(UsageError, match="must take one argument, annotated with its class"):
            workflow.definition.updates[-1].event_class({})
