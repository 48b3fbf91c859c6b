"""Every key of a partition, spelt once: name, type, what it holds, how long it lives.

All keys begin with ``<namespace>:{<namespace>:<partition>}:``, so that they share one hash slot; the scripts build the
rest from that prefix. What a stranger may choose (subject, run id) comes last in a key and behind a fixed word, and a
run's history and mailbox have prefixes of their own instead of suffixes: a run id that ends in ``:history`` would
otherwise name another run's list. The type in `waits` carries its length, because types may hold colons.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Key:
    """One key, or a family of keys that differ in what follows the name."""

    name: str
    type: str
    holds: str
    lives: str = "always"


KEYS = (
    Key("events", "stream", "the public entry: what nobody has taken in yet"),
    Key("ready", "stream", "run, token: something to do and nobody holds it"),
    Key("dead", "stream", "reason, at, run, start, raw: dead letters", "until dropped, or redriven and retention over"),
    Key("redriven", "zset", "dead letter by the time of its redrive", "as the letter"),
    Key("routes", "hash", "event type -> packed Route; #<mark> -> packed list of workflow@version"),
    Key("run:", "hash", "one run, by its full name", "until retention after its end"),
    Key("history:", "list", "the run's encoded records", "as the run"),
    Key("mailbox:", "list", "packed entries not yet recorded", "while there is mail"),
    Key("subjects", "hash", "subject -> its live runs: `=` and the name of the only one, else a packed list"),
    Key("early:", "list", "packed early events of a subject: deadline, type, entry, runs that had it", "while early"),
    Key("deadlines", "zset", "subject by the earliest deadline of its early events", "while early"),
    Key("waits:", "set", "runs of other subjects that wait: <length of type>:<type>:<subject>", "while waited for"),
    Key("waiting", "set", "the waits that have a set", "while waited for"),
    Key("sessions", "zset", "living sessions by expiry"),
    Key("marked", "zset", "sessions past their expiry by the time when a tick saw it"),
    Key("reaping", "zset", "sessions whose runs are being taken: lost for good"),
    Key("held:", "hash", "run -> number of the ingest that leased it; # -> last number", "as the session"),
    Key("wakes", "zset", "run by its next due time", "until due or leased"),
    Key("delayed", "zset", "delayed events by due time", "until due"),
    Key("delayed:entries", "hash", "delayed event -> packed fields", "until due"),
    Key("seen:new", "set", "ids accepted in this dedup window", "one window"),
    Key("seen:old", "set", "ids accepted in the window before", "one window"),
    Key("index", "zset", "all runs by creation", "as the run"),
    Key("index:ended", "zset", "ended runs by their end", "as the run"),
    Key("index:suspended", "zset", "suspended runs by creation", "while suspended"),
    Key("stat", "hash", "counters; token: the highest; sweep, rotated: where tick stands; full: no starts until then"),
    Key("audit:log", "stream", "at, by, act, on, note: what people did", "the last 10,000 acts or a little more"),
    Key("mending", "stream", "a stream made anew, because a stranger used its last id", "within one script"),
    Key("epoch", "string", "random mark of this data set: another one means a flush or another server"),
    Key("hint:", "channel", "run refs for a session whose runs got mail", "not stored"),
)
"""The table of keys; `docs/reference` prints it and a test compares it with the scripts."""


def keys_table() -> str:
    """The table of keys as Markdown, for the documentation."""
    rows = [f"| `{key.name}{'…' * key.name.endswith(':')}` | {key.type} | {key.holds} | {key.lives} |" for key in KEYS]
    cells = [row.replace("<", "\\<") for row in rows]
    return "\n".join(["| key | type | holds | lives |", "|---|---|---|---|", *cells]) + "\n"


def prefix_of(namespace: str, partition: int = 0) -> str:
    """The prefix that all keys of a partition share."""
    return f"{namespace}:{{{namespace}:{partition}}}:"
