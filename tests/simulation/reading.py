"""What the specification reads in an entry, apart from the machine and its way to read."""

from __future__ import annotations

from workflow_worker.model.ids import RunRef
from workflow_worker.store.memory.machine.entries import Entry
from workflow_worker.store.transitions import Route, StartRoute

Text = dict[str, str]


def text_of(entry: Entry) -> Text | None:
    """The fields as text; None when they are no UTF-8."""
    try:
        parts = [part.decode() for part in entry.fields]
    except UnicodeDecodeError:
        return None
    return dict(zip(parts[::2], parts[1::2], strict=True))


def field_of(fields: tuple[bytes, ...], name: bytes) -> str:
    """The last value of a field, empty if there is none."""
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(name, b"").decode("utf-8", "replace")


def id_of(entry: Entry, text: Text | None) -> str | None:
    """The id that its producer gave it."""
    return (field_of(entry.fields, b"id") if text is None else text.get("id")) or None


def is_ours(entry: Entry) -> bool:
    """Whether one of the store's own transitions wrote it."""
    return b"via" in entry.fields[::2]


def public_parts(entry: Entry) -> list[bytes]:
    """Names and values as the producer gave them."""
    names = zip(entry.fields[::2], entry.fields[1::2], strict=True)
    return [part for pair in names if pair[0] != b"via" for part in pair]


def find_route(routes: dict[str, Route], event_type: str) -> Route | None:
    """The route of a type: its own, else that of the longest prefix."""
    fitting = [
        name for name in routes if name == event_type or (name.endswith(".*") and event_type.startswith(name[:-1]))
    ]
    exact = [name for name in fitting if name == event_type]
    return routes[(exact or [max(fitting, key=len)])[0]] if fitting else None


def find_targets(entry: Entry, text: Text, route: Route) -> list[tuple[StartRoute | None, RunRef]]:
    """The runs that the entry is for by itself: the addressed one, or those that its type starts."""
    if text.get("run"):
        start = next((start for start in route.starts if start.workflow == text["workflow"]), None)
        return [(start, RunRef(f"{text['workflow']}:{text['run']}"))]
    event_id = text.get("id") or entry.id
    names = {"subject": text.get("subject", ""), "id": event_id}
    return [
        (start, RunRef(f"{start.workflow}:" + ("".join(names.get(p, p[1:]) for p in start.template) or event_id)))
        for start in route.starts
    ]
