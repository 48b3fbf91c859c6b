"""Who may ask what: addresses, bearer tokens, and requests that a stranger's web page makes a browser send.

On loopback, health and numbers are open to whoever is on the machine; what holds payloads (runs, dead letters), and
operations, need the token if there is one. On any other address everything needs the token but the bare health status,
which load balancers ask for.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from enum import Enum
from urllib.parse import urlsplit

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.model.settings import Settings

MAX_BODY_BYTES = 1_048_576


class Scope(Enum):
    """What a request wants."""

    STATUS = "status"
    READ = "read"
    DATA = "data"
    OPERATE = "operate"


class Guard:
    """Judges requests by their headers; names are lower case.

    Raises:
        ConfigurationError: HOST is not loopback and there is no API_TOKEN.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = settings.api_token
        self.local = is_loopback(settings.host)
        if not self.local and self._token is None:
            raise ConfigurationError(
                f"HOST={settings.host!r} is not usable without API_TOKEN: others could reach the web server;"
                " set API_TOKEN, or HOST=127.0.0.1"
            )

    def knows(self, headers: Mapping[str, str]) -> bool:
        """Tell whether the request has the token; the comparison takes as long for any wrong one."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        expected = self._token or ""
        return bool(expected) and scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), expected.encode())

    def allows(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Tell whether the request may do this. `Scope.STATUS` is everybody's."""
        if scope is Scope.STATUS or self.knows(headers):
            return True
        return self.local and (scope is Scope.READ or self._token is None)

    def refusal_of(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Why a request is a stranger's page speaking through a browser, None if it is not.

        A page can point a name of its own at 127.0.0.1 (DNS rebinding: the Host header shows that name) or post a form
        across origins (the Origin header shows the page's, and a form cannot send JSON). Both matter on loopback only:
        elsewhere no page has the token.
        """
        if not self.local:
            return None
        try:
            host = urlsplit(f"//{headers.get('host', '')}").hostname
            origin = headers.get("origin")
            place = None if origin is None else urlsplit(origin).netloc
        except ValueError:
            return "the Host or Origin header is no address"
        if host is None or not is_loopback(host):
            return "the Host header does not name this machine"
        if place is not None and method not in ("GET", "HEAD") and place != headers.get("host"):
            return "the request comes from another site's page"
        return None


def is_loopback(host: str) -> bool:
    """Tell whether an address or name is this machine's own, without asking a name server."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
