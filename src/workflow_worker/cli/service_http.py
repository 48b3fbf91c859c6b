"""The two commands that speak to a running service: ``health`` and ``scale``."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Annotated, Any, cast

import msgspec
import typer

from workflow_worker.cli.options import JsonOption, read_settings
from workflow_worker.cli.output import counted, print_json, say, status_style
from workflow_worker.model.exceptions import ConfigurationError, Refused, StoreUnavailable
from workflow_worker.model.settings import MAX_WORKERS, Settings

_PATIENCE_S = 10.0


def ask_service(settings: Settings, method: str, path: str, body: object | None = None) -> tuple[int, Any]:
    """One request to the service at HOST:PORT; answers status and decoded JSON.

    Raises:
        StoreUnavailable: Nothing answers there, or not as our service does.
        ConfigurationError: The service refuses API_TOKEN.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "[::]": "[::1]"}.get(settings.host, settings.host)
    url = f"http://{host}:{settings.port}{path}"
    request = urllib.request.Request(url, method=method)
    request.add_header("Accept", "application/json")
    if settings.api_token:
        request.add_header("Authorization", f"Bearer {settings.api_token}")
    if body is not None:
        request.data = msgspec.json.encode(body)
        request.add_header("Content-Type", "application/json")
    # No proxy: the service is this machine's or this network's, and a proxy would see the token.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        try:
            with opener.open(request, timeout=_PATIENCE_S) as response:
                status, raw = cast("int", response.status), cast("bytes", response.read())
        except urllib.error.HTTPError as refused:
            with refused:
                status, raw = refused.code, refused.read()
        if status in (401, 403):
            raise ConfigurationError(f"the service at {url} refuses the request: set API_TOKEN to the service's token")
        return status, msgspec.json.decode(raw)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        reason = getattr(error, "reason", None) or error
        raise StoreUnavailable(
            f"no service answers at {url} ({reason}): is it running there? HOST and PORT say where to ask"
        ) from error


def health(json: JsonOption = False) -> None:
    """Show the health of the service at HOST:PORT.

    If it is not healthy, the reasons are named, worker by worker. Exit code 1 when it is unhealthy.

    \b
    workflow-worker health
    HOST=10.0.0.7 PORT=4000 API_TOKEN=... workflow-worker health --json
    """
    settings = read_settings()
    status, report = ask_service(settings, "GET", "/api/health/worker")
    if json:
        print_json(report)
    else:
        for name, value in cast("dict[str, Any]", report).items():
            say(f"{name:<26}{value}", style=status_style(str(value)) if name == "status" else "")
        for reason in _reasons(settings) if report.get("status") != "healthy" else ():
            say(f"  {reason}")
    if status >= 400:
        raise typer.Exit(1)


def _reasons(settings: Settings) -> list[str]:
    """Why workers are not healthy, worker by worker."""
    status, found = ask_service(settings, "GET", "/api/workers")
    workers = cast("list[dict[str, Any]]", found["items"]) if status == 200 else []
    return [f"{worker['worker']}: {reason}" for worker in workers for reason in worker["reasons"]]


def scale(
    count: Annotated[int, typer.Argument(metavar="N", min=1, max=MAX_WORKERS, help="Worker processes wanted.")],
    json: JsonOption = False,
) -> None:
    """Change the number of workers of a running service.

    The service is the one at HOST:PORT. New workers start at once; surplus ones finish or hand back what they hold, so
    no attempt is repeated.

    \b
    workflow-worker scale 4
    kill -TTIN PID    one worker more (PID is the service's)
    kill -TTOU PID    one worker fewer
    """
    status, answer = ask_service(read_settings(), "POST", "/api/scale", {"workers": count})
    if status >= 400:
        raise Refused(f"the service refused: {answer}")
    if json:
        print_json(answer)
    else:
        say(f"{counted(count, 'worker')} from now on")
