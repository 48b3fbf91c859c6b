"""`Address`: what REDIS_URL says, parsed strictly: one server, or sentinels that know where it is.

``redis://`` and ``rediss://`` (TLS) name a server, ``unix://`` a socket of this machine, ``redis+sentinel://`` and
``rediss+sentinel://`` sentinels and the name under which they know the primary:
https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.model.settings import without_password
from workflow_worker.store.redis.tls import TLS_OPTIONS, Tls

ALLOWED: Final = (
    "redis://[user:password@]host[:port][/db], rediss://… for TLS, unix:///path,"
    " or redis+sentinel://[user:password@]host[:port],…/name[/db] (rediss+sentinel://… for TLS)"
)

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_OPTIONS = frozenset({"db", "username", "password", "client_name"})
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:@\[\]/,]+)(?::(?P<port>[0-9]{1,5}))?")
_SERVICE = re.compile(r"[A-Za-z0-9._-]+")
_PORT = 6379
_SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class Login:
    """Who we say we are; both None where nobody asks."""

    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Login({self.username!r}, {'***' if self.password else None})"


@dataclass(frozen=True, slots=True)
class Place:
    """Where something listens: `host` and `port`, or the `path` of a socket of this machine."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


@dataclass(frozen=True, slots=True)
class Address:
    """`places` is the server itself, or the sentinels when there is a `service`, the name of the primary."""

    places: tuple[Place, ...]
    login: Login = Login()
    database: int = 0
    tls: Tls | None = None
    client_name: str | None = None
    service: str = ""
    sentinel_login: Login = Login()


def parse_address(url: str) -> Address:
    """The address behind the text of REDIS_URL.

    Raises:
        ConfigurationError: It cannot be used; the message says why and shows no password.
    """
    refused = f"REDIS_URL={without_password(url)[:200]!r} is not usable"
    try:
        return _Parser(urlsplit(url)).address()
    except _Wrong as wrong:
        raise ConfigurationError(f"{refused}: {wrong}; allowed is {ALLOWED}") from None  # the same, in more words
    except ValueError:
        # Not chained: such messages quote pieces of the URL, perhaps of the password.
        raise ConfigurationError(f"{refused}: allowed is {ALLOWED}") from None


class _Wrong(Exception):
    """What is wrong with the URL; never quotes its login."""


class _Parser:
    def __init__(self, parts: SplitResult) -> None:
        if parts.scheme not in _SCHEMES:
            raise _Wrong("it begins with none of these schemes")
        if parts.fragment:
            raise _Wrong("what follows '#' has no meaning (write %23 for one in a password)")
        self._scheme = parts.scheme
        self._secure = parts.scheme.startswith("rediss")
        self._by_sentinels = parts.scheme.endswith("+sentinel")
        self._path = parts.path
        login, _, self._places = parts.netloc.rpartition("@")
        self._username, _, self._password = map(unquote, login.partition(":"))
        self._options = self._known_options(parts.query)

    def address(self) -> Address:
        options = self._options
        service, database = self._service_and_database()
        login = Login(
            options.get("username") or self._username or None, options.get("password") or self._password or None
        )
        return Address(
            places=self._where(),
            login=login,
            database=database,
            tls=Tls.from_options(options) if self._secure else None,
            client_name=options.get("client_name"),
            service=service,
            sentinel_login=Login(options.get("sentinel_username"), options.get("sentinel_password")),
        )

    def _known_options(self, query: str) -> dict[str, str]:
        known = _OPTIONS | (_SENTINEL_OPTIONS if self._by_sentinels else frozenset[str]())
        options: dict[str, str] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name in TLS_OPTIONS and not self._secure:
                raise _Wrong(f"the option {name} is for rediss://, which encrypts")
            if name not in known and not (name in TLS_OPTIONS and self._secure):
                raise _Wrong(f"the option {name[:50]!r} is not supported")
            if name in options:
                raise _Wrong(f"the option {name} is there twice")
            options[name] = value
        return options

    def _where(self) -> tuple[Place, ...]:
        if self._scheme == "unix":
            return (Place(path=unquote(self._path)),)
        texts = self._places.split(",")
        if len(texts) > 1 and not self._by_sentinels:
            raise _Wrong("it names several hosts, which is for sentinels: redis+sentinel://")
        return tuple(self._place(text) for text in texts)

    def _place(self, text: str) -> Place:
        found = _PLACE.fullmatch(text)
        if found is None:
            # Not quoted: who forgets the host has written the password there.
            raise _Wrong("what stands where a host[:port] should be is none" if text else "a host is missing")
        default = _SENTINEL_PORT if self._by_sentinels else _PORT
        port = default if found["port"] is None else int(found["port"])
        if not 0 < port < 65_536:
            raise _Wrong(f"a port is a number from 1 to 65535, not {port}")
        return Place(unquote(found["host"].strip("[]")), port)

    def _service_and_database(self) -> tuple[str, int]:
        if self._scheme == "unix":
            if not self._path.strip("/"):
                raise _Wrong("the path of the socket is missing")
            return "", self._database("")
        service, path = "", self._path.removeprefix("/")
        if self._by_sentinels:
            service, _, path = path.partition("/")
            if not _SERVICE.fullmatch(service):
                raise _Wrong(
                    "the name under which the sentinels know the primary is missing (…/name), or not made of letters,"
                    " digits, '.', '_' and '-'"
                )
        return service, self._database(path)

    def _database(self, path: str) -> int:
        text = self._options.get("db", path) or "0"
        if not re.fullmatch(r"[0-9]{1,5}", text):
            raise _Wrong(f"the database is a number, not {text[:30]!r}")
        return int(text)
