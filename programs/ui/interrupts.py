"""Ctrl-C: the first one ends a command within seconds and keeps its results, a second one ends it at once."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS = 4.0  # for what is under way to end by itself
INTERRUPTED = 130


@contextmanager
def prompt_interrupts() -> Iterator[None]:
    """Let Ctrl-C in the block give up all calls in flight, and end the process though its threads still work.

    Results are written as they come, so a process may end at any moment. Only the main thread can listen.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = threading.Event()

    def interrupt(_: int, __: FrameType | None) -> None:
        if interrupted.is_set():
            _end()
        interrupted.set()
        atexit.register(_end)  # taking down torch and its like takes seconds
        timer = threading.Timer(_SECONDS, _end)
        timer.daemon = True
        timer.start()
        deadline = sys.modules.get("r2p_dspy.engines.served.deadline")  # no call is in flight before it is imported
        if deadline is not None:
            deadline.give_up_all()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if not interrupted.is_set():
            signal.signal(signal.SIGINT, before)


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)
