"""Runs and dead letters over HTTP: what the command line shows and does, for dashboards and scripts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, Concatenate, ParamSpec

import msgspec
from fastapi import APIRouter, Query, Request, Response

from workflow_worker.client.client import Client
from workflow_worker.client.documents import act_document, letter_document, run_details, run_document
from workflow_worker.client.outgoing import started_by_input
from workflow_worker.model.exceptions import (
    EventRejected,
    NotFound,
    Refused,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from workflow_worker.model.run import RunStatus
from workflow_worker.model.settings import without_password
from workflow_worker.store.transitions import RunQuery
from workflow_worker.web.access import StoreAccess
from workflow_worker.web.answers import json_answer, refusal
from workflow_worker.web.bodies import read_body, read_json

P = ParamSpec("P")

Limit = Annotated[int, Query(ge=1, le=1_000, description="At most this many.")]
After = Annotated[str, Query(description="Continue after this one: `next` of the page before.")]


class RunAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a cancel or a resume."""

    by: str = ""
    reason: str = ""
    note: str = ""


class RunStart(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a start. `data` is the workflow's arguments by name, or its event; without an `id` the run gets one."""

    workflow: str
    id: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")
    subject: str | None = None


class LetterAct(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a redrive or a drop."""

    by: str = ""


class BulkDrop(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a drop of all letters that fit. `all` must be true: an empty body must not delete everything."""

    all: bool = False
    reason: str = ""
    type: str | None = None
    older_ms: int = 0
    by: str = ""


def _refusing(
    answer: Callable[Concatenate[Operations, P], Awaitable[Response]],
) -> Callable[Concatenate[Operations, P], Awaitable[Response]]:
    """What the client raises, as an answer."""

    @wraps(answer)
    async def answered(self: Operations, *args: P.args, **kwargs: P.kwargs) -> Response:
        try:
            return await answer(self, *args, **kwargs)
        except UsageError as error:
            return refusal(400, str(error))
        except NotFound as error:
            return refusal(404, str(error))
        except Refused as error:
            return refusal(409, str(error))
        except StoreUnavailable as error:
            return refusal(503, without_password(str(error)))

    return answered


class Operations:
    """The answers. Who acts is `by` of the body, else ``http@ADDRESS``."""

    def __init__(self, access: StoreAccess) -> None:
        self._access = access

    def router(self) -> APIRouter:
        """The routes, with their descriptions for OpenAPI."""
        router = APIRouter()
        gone: dict[int | str, dict[str, Any]] = {404: {"description": "There is none"}}
        refused = gone | {409: {"description": "Refused: not in a state for it; the message says why"}}
        run, letter = "/api/runs/{run_id:path}", "/api/dead-letters/{letter_id}"
        router.get("/api/runs", summary="List runs, the newest first", tags=["runs"])(self.runs)
        router.post(
            "/api/runs",
            summary="Start a run of a workflow by its name",
            tags=["runs"],
            openapi_extra=_body({"workflow": "string", "id": "string", "data": "", "subject": "string"}, "workflow"),
        )(self.start)
        router.get(run, summary="One run with its history", tags=["runs"], responses=gone)(self.run)
        for act, text, endpoint in (
            ("cancel", "Ask a run to end; it may clean up first", self.cancel),
            ("resume", "Let a suspended run go on: what failed is tried again", self.resume),
        ):
            body = _body({"by": "string", ("reason" if act == "cancel" else "note"): "string"})
            described = router.post(f"{run}/{act}", summary=text, tags=["runs"], responses=refused, openapi_extra=body)
            described(endpoint)
        tags: list[Any] = ["dead letters"]
        router.get("/api/dead-letters", summary="List dead letters, the oldest first", tags=tags)(self.letters)
        router.post(
            "/api/dead-letters/drop",
            summary="Delete all dead letters that fit, for good",
            tags=tags,
            openapi_extra=_body(
                {"all": "boolean", "reason": "string", "type": "string", "older_ms": "integer", "by": "string"}, "all"
            ),
        )(self.drop_all)
        router.get(letter, summary="One dead letter with its raw fields", tags=tags, responses=gone)(self.letter)
        by = _body({"by": "string"})
        for act, text, endpoint in (
            ("redrive", "Send a dead letter's event again", self.redrive),
            ("drop", "Delete a dead letter for good", self.drop),
        ):
            described = router.post(f"{letter}/{act}", summary=text, tags=tags, responses=refused, openapi_extra=by)
            described(endpoint)
        router.get("/api/operators", summary="What people did, the newest first", tags=["operators"])(self.operators)
        return router

    # ---- runs
    @_refusing
    async def runs(
        self,
        status: RunStatus | None = None,
        workflow: str | None = None,
        subject: str | None = None,
        limit: Limit = 100,
        after: After = "",
    ) -> Response:
        """Runs by status, workflow and subject. `total` is told with the first page only."""
        client = await self._access.client()
        query = RunQuery(status=status, workflow=workflow, subject=subject, limit=limit + 1, after=after)
        page = await client.runs(query)
        items = [run_document(run) for run in page.items[:limit]]
        following = page.items[limit - 1].ref if len(page.items) > limit else None
        return json_answer({"items": items, "next": following, "total": None if after else page.total})

    @_refusing
    async def start(self, request: Request) -> Response:
        """Of any workflow, also one that no event starts. `existed` tells that a run of this id was started before."""
        given = read_json(await read_body(request), RunStart)
        client = await self._access.client()
        item = started_by_input(given.workflow, bytes(given.data), given.subject or None)
        chosen = uuid.uuid4().hex if given.id is None else given.id
        try:
            handle = await client.start(given.workflow, item, id=chosen)
        except EventRejected as error:
            return refusal(400, str(error))
        except StoreFull as error:
            return refusal(503, f"not started, send it again with the same id: {error}")
        document = {"id": handle.id, "workflow": given.workflow, "existed": handle.existed}
        return json_answer(document, 200 if handle.existed else 202)

    @_refusing
    async def run(self, run_id: str) -> Response:
        """One run by its id, with or without its workflow in front; with state, history and what it waits for."""
        client = await self._access.client()
        found = await client.run(run_id)
        return json_answer(run_details(found, await client.history(found.ref), time.time_ns() // 1_000_000))

    @_refusing
    async def cancel(self, run_id: str, request: Request) -> Response:
        """The run gets a cancel where it waits; a suspended one goes on for it."""
        given = read_json(await read_body(request), RunAct)
        client = await self._access.client()
        ref = await client.cancel(run_id, by=_by(given.by, request), reason=given.reason)
        return json_answer(_done(ref, "cancel"), 202)

    @_refusing
    async def resume(self, run_id: str, request: Request) -> Response:
        """The step that failed is tried again; what was done before it is not."""
        given = read_json(await read_body(request), RunAct)
        client = await self._access.client()
        ref = await client.resume(run_id, by=_by(given.by, request), note=given.note)
        return json_answer(_done(ref, "resume"), 202)

    # ---- dead letters
    @_refusing
    async def letters(self, limit: Limit = 100, after: After = "") -> Response:
        """Dead letters that were not sent again."""
        client: Client = await self._access.client()
        found = await client.dead_letters(limit + 1, after)
        following = found[limit - 1].id if len(found) > limit else None
        total = max((await client.depth()).dead, len(found))
        items = [letter_document(letter) for letter in found[:limit]]
        return json_answer({"items": items, "next": following, "total": total})

    @_refusing
    async def letter(self, letter_id: str) -> Response:
        """One dead letter: why it is here, and the entry's fields exactly as they came."""
        client = await self._access.client()
        return json_answer(letter_document(await client.dead_letter(letter_id)))

    @_refusing
    async def redrive(self, letter_id: str, request: Request) -> Response:
        """As a new entry; a run's own copy goes to that run alone. Refused the second time."""
        given = read_json(await read_body(request), LetterAct)
        client = await self._access.client()
        await client.redrive(letter_id, by=_by(given.by, request))
        return json_answer({"id": letter_id, "operation": "redrive", "outcome": "ok"}, 202)

    @_refusing
    async def drop(self, letter_id: str, request: Request) -> Response:
        """It cannot be had back."""
        given = read_json(await read_body(request), LetterAct)
        client = await self._access.client()
        await client.drop(letter_id, by=_by(given.by, request))
        return json_answer({"id": letter_id, "operation": "drop", "outcome": "ok"})

    @_refusing
    async def drop_all(self, request: Request) -> Response:
        """Those whose reason begins with `reason`, of `type`, here for longer than `older_ms`; `all` must be true."""
        given = read_json(await read_body(request), BulkDrop)
        if not given.all:
            raise UsageError('write {"all": true} with what chooses: "reason", "type", "older_ms"')
        if given.older_ms < 0:
            raise UsageError("older_ms is negative")
        client = await self._access.client()
        gone = await client.drop_letters(
            by=_by(given.by, request), reason=given.reason, type=given.type, older=given.older_ms / 1000
        )
        return json_answer({"operation": "drop letters", "outcome": "ok", "dropped": gone})

    # ---- operators
    @_refusing
    async def operators(self, limit: Limit = 100) -> Response:
        """Who cancelled, resumed, sent again or deleted what, and when."""
        client = await self._access.client()
        acts = [act_document(act) for act in await client.operator_log(limit)]
        return json_answer({"items": acts, "next": None, "total": len(acts)})


def _by(given: str, request: Request) -> str:
    return given or f"http@{request.client.host if request.client else 'unknown'}"


def _done(ref: str, operation: str) -> dict[str, str]:
    workflow, _, run_id = ref.partition(":")
    return {"id": run_id, "workflow": workflow, "operation": operation, "outcome": "ok"}


def _body(fields: dict[str, str], *required: str) -> dict[str, Any]:
    """An OpenAPI body of plain fields, or of any JSON where no type is given; `{}` does where none is required."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: {"type": of} if of else {} for name, of in fields.items()},
    }
    if required:
        schema["required"] = list(required)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
