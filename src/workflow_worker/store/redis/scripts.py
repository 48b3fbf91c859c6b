"""Reads, links and checks the `.lua` files beside this module.

A script's header is its contract, and executed: ``-- args:`` names its arguments (``...`` last: any number more), from
which the local bindings are made; ``-- include:`` lines, in the header or below, are replaced by the named ``_*.lua``.
`load_scripts` compares the names with those that the Python side passes, so a header that lies fails at once. Scripts
go by content hash (``EVALSHA``): two releases in a rolling deploy each call their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

from workflow_worker.model.exceptions import ConfigurationError

CALLS: dict[str, tuple[str, ...]] = {
    "open": ("now", "session", "ttl", "mark"),
    "close": ("now", "session", "died", "max_takeovers", "poison"),
    "renew": ("now", "session", "ttl", "..."),
    "ingest": (
        *("now", "session", "number", "room", "mark", "cursor", "quarantine", "reason"),
        *("max_bytes", "envelope", "mail_cap", "cap_bytes", "early_cap", "subject_cap"),
        *("early_ttl", "names", "copies_cap", "internal_bytes"),
    ),
    "load": ("now", "session", "most", "..."),
    "commit": ("now", "mailbox_cap", "cap_bytes", "max_bytes", "waits_cap", "crowded", "..."),
    "hand_back": ("now", "session", "ref", "token", "delay"),
    "publish": ("now", "..."),
    "register": ("now", "mark", "knows", "..."),
    "cancel": ("now", "ref", "kind", "data", "by", "reason"),
    "resume": ("now", "ref", "record", "by"),
    "redrive": ("now", "id", "by"),
    "drop": ("now", "id", "by"),
    "drop_letters": ("now", "first", "reason", "kind", "before", "limit", "by", "looked_for"),
    "tick": ("now", "limit", "ttl", "max_takeovers", "poison", "window", "retention", "retention_runs", "high_water"),
    "page": ("index", "offset", "count", "status", "workflow", "subject"),
    "view": ("...",),
    "letters": ("first", "last", "count"),
    "recorded": ("ref",),
    "operator_log": ("count",),
    "note": ("now", "by", "act", "on", "more"),
    "depth": (),
    "audit": ("cursor",),
}
"""Script -> the names of the arguments that `RedisStore` passes, in order."""

_INCLUDE = re.compile(r"^-- include:(.*)$", re.MULTILINE)
_HEADER = re.compile(r"^-- (keys|args|include|returns):(.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One linked script: what the server is given, and the hash by which it is called."""

    name: str
    args: tuple[str, ...]
    text: str
    sha: str


def read_file(name: str) -> str:
    """The text of one ``.lua`` file of this package."""
    return (files("workflow_worker.store.redis") / "lua" / f"{name}.lua").read_text("utf-8")


def link(name: str, read: Callable[[str], str] = read_file) -> Script:
    """Bind the arguments and put the includes in, each at most once.

    Raises:
        ConfigurationError: A header line is missing, or a file is included twice.
    """
    source = read(name)
    found: list[tuple[str, str]] = _HEADER.findall(source)
    headers = {word for word, _ in found}
    missing = {"keys", "args", "include", "returns"} - headers
    if missing or not source.startswith("-- "):
        raise ConfigurationError(
            f"{name}.lua: header lines missing: {', '.join(sorted(missing)) or 'a first sentence'}"
        )
    args = tuple(part for word, rest in found if word == "args" for part in rest.split())
    included: set[str] = set()

    def insert(found: re.Match[str]) -> str:
        parts: list[str] = []
        for part in found[1].split():
            if part in included:
                raise ConfigurationError(f"{name}.lua includes {part} twice")
            included.add(part)
            parts.append(_code_of(read(part)))
        return "\n".join(parts)

    body = _code_of(_INCLUDE.sub(insert, source))
    # In a function of its own, because a function that uses a local of the one around it looks for it in a list of all
    # that are used so (3 µs of an ingest); what that one has of those further out it just copies.
    text = f"local P, ARGV, call = KEYS[1], ARGV, redis.call\n{_bindings(args)}return (function()\n{body}end)()\n"
    return Script(name, args, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def load_scripts(read: Callable[[str], str] = read_file) -> dict[str, Script]:
    """All scripts, linked and compared with `CALLS`; `read` gives the text of a file by its name.

    Raises:
        ConfigurationError: A script's header names other arguments than its caller passes.
    """
    scripts = {name: link(name, read) for name in CALLS}
    for name, script in scripts.items():
        if script.args != CALLS[name]:
            raise ConfigurationError(f"{name}.lua takes {script.args}, but is called with {CALLS[name]}")
    return scripts


def _bindings(args: tuple[str, ...]) -> str:
    names = [arg for arg in args if arg != "..."]
    values = [f"ARGV[{index}]" for index in range(1, len(names) + 1)]
    return f"local {', '.join(names)} = {', '.join(values)}\n" if names else ""


def _code_of(text: str) -> str:
    """Without lines of comment only: the server parses what is left."""
    return "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("--")) + "\n"
