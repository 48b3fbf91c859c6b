"""`Sentinels`: ask them, one after the other, who the primary is, and believe only a server that says so of itself.

As "Guidelines for Redis clients with support for Redis Sentinel" wants it; the answer is not kept, so each new
connection goes to the primary of that moment. https://redis.io/docs/latest/develop/reference/sentinel-clients/
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from workflow_worker.store.redis.address import Place
from workflow_worker.store.redis.errors import (
    AuthenticationError,
    ConnectionFailed,
    Misconfigured,
    NoPermissionError,
    RedisError,
)
from workflow_worker.store.redis.replies import pack
from workflow_worker.store.redis.wire import Wire

_ANSWER_WITHIN_S = 1.0


class Sentinels:
    """The sentinels of one primary, which they call `service`. The one that answered last is asked first next time."""

    def __init__(self, places: tuple[Place, ...], service: str, dial: Callable[[Place], Awaitable[Wire]]) -> None:
        self._places = list(places)
        self.service = service
        self._dial = dial

    def places(self) -> list[Place]:
        """Where they are, in the order in which they are asked."""
        return list(self._places)

    async def primary(self, connect: Callable[[Place], Awaitable[Wire]]) -> tuple[Wire, Place]:
        """A connection to the primary, made by `connect`, and where that is.

        Raises:
            Misconfigured: All sentinels answer, and none knows a primary of this name.
            ConnectionFailed: No primary can be reached; says what each sentinel's word came to.
            AuthenticationError, NoPermissionError: A sentinel, or the primary, wants another login.
        """
        found: dict[Place | str, str] = {}
        unknown = 0
        for sentinel in self.places():
            try:
                place = await self.ask(sentinel)
            except (AuthenticationError, NoPermissionError):
                raise
            except (RedisError, OSError) as error:
                found[str(sentinel)] = f"{sentinel}: {error}"
                continue
            if place is None:
                unknown += 1
                found[str(sentinel)] = f"{sentinel} knows no such primary"
            elif place not in found:  # a server that does not answer is not asked once for each sentinel
                wire = await _primary_at(place, connect, found)
                if wire is not None:
                    self._places.remove(sentinel)
                    self._places.insert(0, sentinel)
                    return wire, place
        if unknown == len(self._places):
            raise Misconfigured(
                f"REDIS_URL names the primary {self.service!r}, and none of the sentinels"
                f" {', '.join(map(str, self._places))} knows it"
            )
        raise ConnectionFailed(f"no sentinel leads to the primary {self.service!r}: {'; '.join(found.values())}")

    async def ask(self, sentinel: Place) -> Place | None:
        """Where this sentinel says that the primary is; None: it knows none of that name.

        Raises:
            RedisError, OSError: It does not answer, or wants another login.
        """
        wire = await self._dial(sentinel)
        reply: Any = await _asked(wire, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service))
        wire.abort("asked")
        return None if reply is None else Place(reply[0].decode(), int(reply[1]))


async def _primary_at(
    place: Place, connect: Callable[[Place], Awaitable[Wire]], found: dict[Place | str, str]
) -> Wire | None:
    try:
        wire = await connect(place)
        role: Any = await _asked(wire, ("ROLE",))
    except (AuthenticationError, NoPermissionError):
        raise
    except (RedisError, OSError) as error:
        found[place] = f"the primary at {place}: {error}"
        return None
    if role[0] == b"master":
        return wire
    wire.abort("not the primary")
    found[place] = f"the primary at {place} says that it is a {role[0].decode(errors='replace')}"
    return None


async def _asked(wire: Wire, command: tuple[str, ...]) -> Any:
    try:
        return await wire.send(pack(command), _ANSWER_WITHIN_S)
    except BaseException:
        wire.abort("not answered")
        raise
