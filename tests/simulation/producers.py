"""Those who send events: well-behaved, hasty, repeating and hostile ones."""

from __future__ import annotations

from tests.simulation.attempt import BAD
from tests.simulation.kernel import Kernel
from tests.simulation.programs import SUBJECTS
from tests.simulation.server import UNANSWERED, Server
from workflow_worker.model.event import Event
from workflow_worker.store.transitions import Publish

TYPES = (
    *("a", "b", "b", "c", "c", "ac", "late", "z", "once", "free", "h", "k", "r"),
    *("ev", "ev", "ev", "ev", "ev", "pre.x.y", "pre.mail.x"),
)
NAME_NO_RUN = ("ev", "b", "once", "r", "pre.mail.x")
"""Types of which no run takes its name from the event."""

ODD_TYPES = ("undeclared", "pre", "", "wf.cancel", "ww.done", "ww.done", "p", "p")


class Producer:
    """Sends events until `until`, one after the other, by any of the ways in."""

    def __init__(self, server: Server, number: int, until: int) -> None:
        self.server = server
        self.kernel: Kernel = server.kernel
        self.number = number
        self.until = until
        self.sent = 0
        self.kernel.after(self.kernel.between(1, 200), self._produce)

    def _produce(self) -> None:
        kernel = self.kernel
        if kernel.now > self.until:
            return
        self.sent += 1
        kernel.counts["events"] += 1
        if kernel.chance(0.03):
            self._send("add", (self._garbage(),), repeat=False)
        else:
            self._send_event()
        kernel.after(kernel.random.choice([0, kernel.between(1, 60), kernel.between(60, 400)]), self._produce)

    def _send_event(self) -> None:
        kernel, choice = self.kernel, self.kernel.random.choice
        kind = choice(TYPES) if kernel.chance(0.92) else choice(ODD_TYPES)
        subject = None if kind == "free" or kernel.chance(0.02) else f"s{kernel.between(0, SUBJECTS - 1)}"
        data = BAD if kernel.chance(0.03) else b'"ok"'
        event = Event(f"e{self.number}-{self.sent}", kind, subject, data)
        address = (choice("BR"), f"s{kernel.between(0, SUBJECTS - 1)}") if kernel.chance(0.05) else None
        workflow, run = address or (None, None)
        way = choice(["publish", "publish", "delayed", "bare", "bare twice", "both", "no id"])
        if way in ("publish", "delayed", "both"):
            delay = kernel.between(10, 600) if way == "delayed" else 0
            publish = Publish(event, workflow, run, delay)
            later = choice([0, kernel.between(1, 1_500)]) if way == "both" else 0
            kernel.after(later, lambda: self._send("publish", ((publish,),), repeat=True))
        if way in ("bare", "bare twice", "both", "no id"):
            nameless = way == "no id" and (self.server.ids_name_runs or kind in NAME_NO_RUN)
            fields = bare_fields(event, address, with_id=not nameless)
            self._send("add", (fields,), repeat=way != "no id")
            if way == "bare twice":
                kernel.after(choice([0, kernel.between(1, 1_500)]), lambda: self._send("add", (fields,), repeat=True))

    def _send(self, verb: str, arguments: tuple[object, ...], *, repeat: bool) -> None:
        """Send until answered; now and then the producer dies before that."""

        def answered(outcome: object) -> None:
            if outcome is UNANSWERED and repeat and self.kernel.chance(0.9):
                self.kernel.after(self.kernel.between(1, 50), lambda: self._send(verb, arguments, repeat=True))

        self.server.call(verb, arguments, answered)

    def _garbage(self) -> tuple[bytes, ...]:
        name = f"g{self.number}-{self.sent}".encode()
        return self.kernel.random.choice(
            [
                (b"\xff\xfe", b"\x00", b"type", b"ev", b"id", name),
                (b"hello", b"world"),
                (b"id", name, b"type", b"ev", b"subject", b"s1", b"data", b'"' + b"x" * 3_000 + b'"'),
                (b"id", name, b"type", b"ev", b"subject", b"s1", b"workflow", b"B"),
                (b"id", name, b"type", b"ev", b"subject", b"s1", b"run", b"s1"),
                (b"id", name, b"type", b"G", b"subject", b"s2", b"workflow", b"A", b"run", b"nobody"),
                (b"id", b"", b"type", b"ev", b"subject", b"", b"data", b"1"),
            ]
        )


def bare_fields(event: Event, address: tuple[str, str] | None, *, with_id: bool) -> tuple[bytes, ...]:
    """The fields of a plain XADD."""
    fields = [part if isinstance(part, bytes) else part.encode() for part in event.fields()]
    if address is not None:
        fields += [b"workflow", address[0].encode(), b"run", address[1].encode()]
    return tuple(fields if with_id else fields[2:])
