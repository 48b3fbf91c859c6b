"""What the service does on which signal."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator


@contextlib.contextmanager
def handling_signals(stop: Callable[[], None], scale_by: Callable[[int], None]) -> Generator[None]:
    """SIGTERM, SIGINT and SIGHUP call `stop`; SIGTTIN is one worker more, SIGTTOU one less (as unicorn does).

    A signal that our starter has set to be ignored, as ``nohup`` does with SIGHUP, stays ignored. Must be entered on
    the main thread, on a running loop; afterwards the handlers are as before.
    """
    loop = asyncio.get_running_loop()
    meanings: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: stop,
        signal.SIGINT: stop,
        signal.SIGHUP: stop,
        signal.SIGTTIN: lambda: scale_by(1),
        signal.SIGTTOU: lambda: scale_by(-1),
    }
    before = {number: signal.getsignal(number) for number in meanings}
    ours = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in ours:
        loop.add_signal_handler(number, meanings[number])
    try:
        yield
    finally:
        for number in ours:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number] or signal.SIG_DFL)
