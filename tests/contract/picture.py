"""What one partition holds, key by key, in one form for the machine and for a server: what the walks compare besides
answers. Left out is what each makes by itself (ids of entries) and what only one of them keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from workflow_worker.store.memory.machine.state import Partition
from workflow_worker.store.redis.keys import KEYS

Picture = dict[str, Any]
Execute = Callable[..., Awaitable[Any]]


def of_machine(p: Partition) -> Picture:
    """The machine's state."""
    s = p.state
    return {
        "subjects": {subject: [*refs] for subject, refs in s.subjects.items() if refs},
        "early": {
            subject: [(kept.deadline, kept.type, _data(kept.entry.fields), sorted(kept.to)) for kept in items]
            for subject, items in s.early.items()
        },
        "deadlines": dict(s.early_due),
        "waits": {f"{len(kind)}:{kind}:{subject}": sorted(refs) for (kind, subject), refs in s.waits.items() if refs},
        "wakes": dict(s.wakes),
        "delayed": sorted(at for at, _ in s.delayed.values()),
        "sessions": {name: each.expiry for name, each in s.sessions.items() if not each.reaping},
        "marked": {n: each.marked for n, each in s.sessions.items() if each.marked is not None and not each.reaping},
        "reaping": sorted(name for name, each in s.sessions.items() if each.reaping),
        "held": {name: dict(each.held) for name, each in s.sessions.items() if each.held},
        "seen": (sorted(s.seen_new), sorted(s.seen_old)),
        "ended": dict(s.ended),
        "suspended": sorted(ref for ref, run in s.runs.items() if run.status == "suspended"),
        "runs": {
            ref: (
                *(run.created_at, run.began_at, run.emitted, run.strikes, run.start_rejected, run.cancel_requested),
                *(
                    len(run.mailbox),
                    len(run.history),
                    [_data(entry.fields) for entry in run.mailbox],
                    _data(run.start.fields),
                ),
            )
            for ref, run in s.runs.items()
        },
        "ready": [(ref, token) for ref, token in s.ready.values()],
        "token": s.highest_token,
    }


def _data(fields: Any) -> bytes:
    flat = dict(zip(fields[::2], fields[1::2], strict=True))
    return flat.get(b"data", b"null")


async def of_server(execute: Execute, prefix: str) -> Picture:
    """The server's keys.

    Raises:
        AssertionError: A key is of no kind that `KEYS` lists.
    """
    names = sorted(key.decode().removeprefix(prefix) for key in await execute("KEYS", prefix + "*"))
    kinds = [key.name for key in KEYS]
    strange = [name for name in names if not any(name == k or (k[-1] == ":" and name.startswith(k)) for k in kinds)]
    assert not strange, f"keys that nobody knows: {strange}"

    async def scores(name: str) -> dict[str, int]:
        flat = await execute("ZRANGE", prefix + name, 0, -1, "WITHSCORES")
        return {flat[at].decode(): int(flat[at + 1]) for at in range(0, len(flat), 2)}

    async def hash_of(name: str) -> dict[str, bytes]:
        flat = await execute("HGETALL", prefix + name)
        return {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}

    async def members(name: str) -> list[bytes]:
        return sorted(await execute("SMEMBERS", prefix + name))

    held = {name[5:]: await hash_of(name) for name in names if name.startswith("held:")}
    refs = [name[4:] for name in names if name.startswith("run:")]
    index = await scores("index")
    assert sorted(index) == refs, f"the index lists {sorted(index)}, there are {refs}"
    ready = await execute("XRANGE", prefix + "ready", "-", "+")
    waits = {name[6:]: [ref.decode() for ref in await members(name)] for name in names if name.startswith("waits:")}
    assert sorted(waits) == [name.decode() for name in await members("waiting")]
    subjects = {subject: _live(value) for subject, value in (await hash_of("subjects")).items() if subject}
    return {
        "subjects": subjects,
        "early": {n[6:]: _early(await execute("LRANGE", prefix + n, 0, -1)) for n in names if n.startswith("early:")},
        "deadlines": await scores("deadlines"),
        "waits": waits,
        "wakes": await scores("wakes"),
        "delayed": sorted((await scores("delayed")).values()),
        "sessions": await scores("sessions"),
        "marked": await scores("marked"),
        "reaping": sorted(await scores("reaping")),
        "held": _held(held),
        "seen": (await members("seen:new"), await members("seen:old")),
        "ended": await scores("index:ended"),
        "suspended": sorted(await scores("index:suspended")),
        "runs": {ref: await _run(execute, prefix, ref, index[ref], await hash_of("run:" + ref)) for ref in refs},
        "ready": [(fields[1].decode(), int(fields[3])) for _, fields in ready],
        "token": int((await hash_of("stat")).get("token", 0)),
    }


def _live(value: bytes) -> list[str]:
    return [value[1:].decode()] if value.startswith(b"=") else msgspec.msgpack.decode(value)


def _early(items: list[bytes]) -> list[tuple[int, str, bytes, list[str]]]:
    found: list[tuple[int, str, bytes, list[str]]] = []
    for item in items:
        deadline, kind, packed, *to = msgspec.msgpack.decode(item, type=list[msgspec.Raw])
        refs = sorted(_text(ref).decode() for ref in to)
        found.append((int(msgspec.msgpack.decode(deadline)), _text(kind).decode(), _packed_data(_text(packed)), refs))
    return found


def _text(raw: msgspec.Raw) -> bytes:
    """A packed text that need not be UTF-8."""
    packed = bytes(raw)
    return packed[1 + {0xD9: 1, 0xDA: 2, 0xDB: 4}.get(packed[0], 0) :]


def _packed_data(packed: bytes) -> bytes:
    parts = msgspec.msgpack.decode(packed, type=list[str])[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True)).get("data", "null").encode()


def _held(held: dict[str, dict[str, bytes]]) -> dict[str, dict[str, int]]:
    numbers = {name: {ref: int(number) for ref, number in runs.items() if ref != "#"} for name, runs in held.items()}
    return {name: runs for name, runs in numbers.items() if runs}


async def _run(execute: Execute, prefix: str, ref: str, indexed: int, run: dict[str, bytes]) -> tuple[Any, ...]:
    box = await execute("LRANGE", f"{prefix}mailbox:{ref}", 0, -1)
    records = await execute("LLEN", f"{prefix}history:{ref}")
    began = int(run["created"])
    created = int(run.get("born", began))
    assert created == indexed, f"{ref} was made at {created}, but stands at {indexed} in the index"
    assert int(run.get("mails", 0)) == len(box), ref
    return (
        *(created, began, int(run.get("emitted", 0)), int(run.get("strikes", 0)), "rejected" in run, "cancel" in run),
        *(len(box), records, [_packed_data(mail) for mail in box], _packed_data(run["start"])),
    )
