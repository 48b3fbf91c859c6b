"""What is asked over HTTP, and what is answered. Errors are ``{"error": …}`` and quote nothing secret."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from workflow_worker import __version__
from workflow_worker.model.exceptions import EventRejected, Refused, StoreFull, StoreUnavailable, UsageError
from workflow_worker.model.settings import MAX_WORKERS, without_password
from workflow_worker.service.health import HealthStatus
from workflow_worker.service.metrics import MetricsPage
from workflow_worker.service.service import WorkerService
from workflow_worker.web.access import StoreAccess
from workflow_worker.web.answers import json_answer, refusal
from workflow_worker.web.bodies import read_body, read_event, read_json
from workflow_worker.web.guard import MAX_BODY_BYTES, Guard, Scope
from workflow_worker.web.operations import Operations

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WITH_PAYLOADS = ("/api/runs", "/api/dead-letters", "/api/operators")
_SCALE_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["workers"],
                    "properties": {"workers": {"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}},
                }
            }
        },
    }
}
_EVENT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/cloudevents+json": {
                "schema": {
                    "type": "object",
                    "required": ["type"],
                    "properties": {
                        **{name: {"type": "string"} for name in ("id", "type", "subject", "source", "time")},
                        **{name: {"type": "string"} for name in ("tenant", "traceparent", "specversion")},
                        "data": {},
                    },
                }
            }
        },
    }
}


class ScaleRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Body of a scale request; `count` is another name for `workers`."""

    workers: int | None = None
    count: int | None = None


def build_api(service: WorkerService, guard: Guard, access: StoreAccess) -> FastAPI:
    """The application; it reads the service's shared memory and never waits for the supervisor's loop."""
    api = FastAPI(
        title="Workflow Worker Service", version=__version__, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
    )  # fmt: skip
    answers = _Answers(service, guard, access)
    api.middleware("http")(answers.guarded)
    api.exception_handler(HTTPException)(answers.refused)
    api.exception_handler(RequestValidationError)(answers.misread)
    unhealthy: dict[int | str, dict[str, Any]] = {503: {"description": "Unhealthy"}}
    api.get("/api/health/worker", summary="Health of the service", responses=unhealthy)(answers.health)
    api.get("/metrics", summary="Prometheus metrics")(answers.metrics)
    api.get("/api/workers", summary="The worker processes, with the reasons of their health")(answers.workers)
    api.post("/api/scale", summary="Change the number of workers", openapi_extra=_SCALE_BODY)(answers.scale)
    api.post("/api/workers/scale", include_in_schema=False)(answers.scale)
    api.post("/api/events", summary="Publish an event", openapi_extra=_EVENT_BODY)(answers.publish)
    api.include_router(Operations(access).router())
    return api


class _Answers:
    def __init__(self, service: WorkerService, guard: Guard, access: StoreAccess) -> None:
        self._service = service
        self._guard = guard
        self._access = access
        self._page = MetricsPage(service.numbers)
        # Its data in full, with room for the names around it: what the other ways to publish take, this one takes too.
        self._most_of_an_event = max(MAX_BODY_BYTES, service.settings.max_event_bytes + 65_536)

    async def guarded(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        why = self._guard.refusal_of(request.method, request.headers)
        if why is not None:
            return refusal(403, why)
        if not self._guard.allows(_scope_of(request), request.headers):
            response = refusal(401, "this needs the bearer token in API_TOKEN")
            response.headers["www-authenticate"] = "Bearer"
            return response
        response = await call_next(request)
        response.headers["cache-control"] = "no-store"
        response.headers["x-content-type-options"] = "nosniff"
        return response

    async def refused(self, request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:  # of the router; what an endpoint does not find, it says itself
            return refusal(404, f"there is nothing at {request.url.path[:200]}: see /api/openapi.json")
        return refusal(error.status_code, str(error.detail))

    async def misread(self, _: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return refusal(400, f"{first['loc'][-1]}: {first['msg']}")

    async def health(self, request: Request) -> Response:
        report = self._service.report()
        status = 503 if report["status"] == HealthStatus.UNHEALTHY else 200
        # To a stranger on the network the status alone: how busy we are is none of theirs.
        shown = report if self._guard.allows(Scope.READ, request.headers) else {"status": report["status"]}
        return json_answer(shown, status)

    async def metrics(self) -> Response:
        return Response(self._page.render(), headers={"content-type": _METRICS_TYPE})

    async def workers(self) -> Response:
        items = self._service.workers()
        return json_answer({"items": items, "next": None, "total": len(items)})

    async def scale(self, request: Request) -> Response:
        try:
            wanted = read_json(await read_body(request), ScaleRequest)
            count = wanted.count if wanted.workers is None else wanted.workers
            if count is None:
                raise UsageError('write {"workers": 4}')
            before = self._service.request_scale(count)
        except UsageError as error:
            return refusal(400, str(error))
        except Refused as error:
            return refusal(409, str(error))
        return json_answer({"workers": count, "before": before}, 202)

    async def publish(self, request: Request) -> Response:
        try:
            event = read_event(await read_body(request, self._most_of_an_event))
            published = await (await self._access.client()).publish(event)
        except (UsageError, EventRejected) as error:
            return refusal(400, str(error))
        except (StoreUnavailable, StoreFull) as error:
            return refusal(503, f"not accepted, send it again with the same id: {without_password(str(error))}")
        return json_answer({"id": published.id, "duplicate": published.duplicate}, 200 if published.duplicate else 202)


def _scope_of(request: Request) -> Scope:
    path = request.url.path
    if path == "/api/health/worker":
        return Scope.STATUS
    if path.startswith(_WITH_PAYLOADS):
        return Scope.DATA
    return Scope.READ if request.method in ("GET", "HEAD") else Scope.OPERATE
