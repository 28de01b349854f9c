"""SIGINT and SIGTERM as a request to stop at the next good moment."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def received_signals() -> Iterator[list[int]]:
    """Collect the first SIGINT or SIGTERM in a list instead of stopping at once; a second one stops at once."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number, frame):
        received.append(number)
        restore()

    def restore():
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        restore()
