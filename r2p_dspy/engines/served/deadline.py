"""Calls in flight: requests of served models run on one event loop, where each can be given up at any moment.

A thread that waits for a server cannot be woken from outside; a task of an event loop can be cancelled, whatever it
waits for: a connection, headers, the next byte, or its turn after a refusal. So every request of a served model, sync
or async, runs on a loop in a thread of its own. It ends at its call's deadline, when a response is too large, or when
the process is interrupted, and leaves no connection and no thread behind.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from queue import SimpleQueue
from traceback import clear_frames
from typing import Any, Protocol, TypeVar

from dspy.utils.exceptions import LMError, LMProviderError, LMTimeoutError

from r2p_dspy.engines.served.counting import CountingLoop

T = TypeVar("T")
Event = TypeVar("Event", covariant=True)
Request = Coroutine[Any, Any, T]


class Events(Protocol[Event]):
    """The events of a response that comes in parts."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def close(self) -> None: ...


MAX_BYTES = 8_000_000  # of one response
_MAX_TOGETHER = 200_000_000  # of all responses in flight
_SMALL = 1_000_000  # a response that is given up for the others' sake is larger

_current: ContextVar[CallInFlight | None] = ContextVar("r2p_call_in_flight", default=None)
_until: ContextVar[float | None] = ContextVar("r2p_until", default=None)


_open = set["CallInFlight"]()
_stopped = threading.Event()


class CallInFlight:
    """A call of a served model: all its requests and retries, and the pauses between them.

    Args:
        seconds: from now until it is given up; None for no deadline.
        max_bytes: of one response.

    Attributes:
        ends: when it is given up, by `time.monotonic`; None for no deadline.
    """

    def __init__(self, seconds: float | None, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes, self._seconds = max_bytes, seconds
        now, until = time.monotonic(), _until.get()
        left = [limit for limit in (seconds, until and until - now) if limit is not None]
        self.ends = now + min(left) if left else None
        self._tasks, self._size = set[asyncio.Task[Any]](), 0
        self._failure: BaseException | None = None
        self._last_attempt: BaseException | None = None

    def wait(self, request: Request[T]) -> T:
        """The result of a coroutine, which runs on the loop.

        Raises:
            LMTimeoutError: at the deadline, or if it is past.
            LMProviderError: for a response of more than `max_bytes`.
            KeyboardInterrupt: when all calls are given up.
        """
        return self._result(self._submit(request))

    def stream(self, request: Request[Events[T]]) -> Generator[T]:
        """The events of the response to a request; raises as `wait`. Closing the iterator hangs up."""
        # Events are read on the loop as they come: to fetch each from there would take two changes of threads, and a
        # stream that is to be stopped would run on meanwhile.
        arrived: SimpleQueue[tuple[T, ...]] = SimpleQueue()
        future = self._submit(_read(request, lambda event: arrived.put((event,))))
        future.add_done_callback(lambda _: arrived.put(()))
        try:
            while event := arrived.get():
                yield event[0]
            self._result(future)
        finally:
            future.cancel()

    async def join(self, request: Request[T]) -> T:
        """As `wait`, for a caller on another event loop. Cancelling the caller cancels the request."""
        try:
            return await asyncio.wrap_future(self._submit(request))
        except asyncio.CancelledError:
            self._raise_failure()
            raise

    def give_up(self, failure: BaseException) -> None:
        """End the call now; whoever waits for it gets this error. Any thread may call it."""
        self._failure = self._failure or failure
        if self._tasks:
            event_loop().call_soon_threadsafe(self._cancel)

    def accepts(self, size: int) -> bool:
        """Whether a response may have so many bytes; the call is given up if not."""
        self._size = size
        if size <= min(self.max_bytes, _SMALL):
            return True
        if size > self.max_bytes:
            limit = f"more than {self.max_bytes / 1e6:g} MB"
        elif sum(call._size for call in _open.copy()) > _MAX_TOGETHER:
            limit = f"{size / 1e6:.1f} MB, and all in flight more than {_MAX_TOGETHER / 1e6:g} MB"
        else:
            return True
        self.give_up(LMProviderError(f"a response has {limit}, so it was given up", code="response_too_large"))
        return False

    def _result(self, future: Future[T]) -> T:
        try:
            return future.result()
        except CancelledError:
            self._raise_failure()
            raise
        except BaseException:
            future.cancel()
            raise

    def _submit(self, request: Request[T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(self._run(request), event_loop())

    async def _run(self, request: Request[T]) -> T:
        task = asyncio.current_task()
        assert task is not None  # nosec B101  # a coroutine runs in a task
        self._tasks.add(task)
        timer = None
        if self.ends is not None:
            timer = asyncio.get_running_loop().call_later(self.ends - time.monotonic(), self._expire)
        if self._failure is not None:
            task.cancel()
        try:
            return await request
        except asyncio.CancelledError as cancelled:
            self._last_attempt = cancelled.__context__  # what failed, if it was waiting to try again
            clear_frames(cancelled.__traceback__)  # they hold what came of the response
            raise
        finally:
            self._tasks.discard(task)
            if timer is not None:
                timer.cancel()

    def _expire(self) -> None:
        self.give_up(LMTimeoutError())

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _raise_failure(self) -> None:
        """Raise why the call was given up, if it was: a new error, for several threads may wait for one call."""
        last = self._last_attempt
        if isinstance(self._failure, LMTimeoutError):
            within = "in time" if self._seconds is None else f"within {self._seconds:g} s"
            reason = f" (the last attempt: {' '.join(str(last).split())[:200]})" if isinstance(last, LMError) else ""
            raise LMTimeoutError(f"no answer {within}{reason}; raise the timeout (--timeout)") from last
        if self._failure is not None:
            raise copy(self._failure)


async def _read(request: Request[Events[T]], give: Callable[[T], None]) -> None:
    events = await request
    try:
        async for event in events:
            give(event)
    finally:
        await events.close()


@contextmanager
def in_flight(seconds: float | None, max_bytes: int = MAX_BYTES, *, apart: bool = False) -> Generator[CallInFlight]:
    """A call in flight until the block ends.

    Calls within a call are parts of it, and have its deadline, unless they stand apart from it.
    """
    outer = None if apart else _current.get()
    if outer is not None:
        yield outer
        return
    call = CallInFlight(seconds, max_bytes)
    token = _current.set(call)
    _open.add(call)
    try:
        if _stopped.is_set():
            raise KeyboardInterrupt
        yield call
    finally:
        _open.discard(call)
        _current.reset(token)
        call.give_up(asyncio.CancelledError())  # what still runs, if an error ended the block


@contextmanager
def until(moment: float | None) -> Generator[None]:
    """Give up the calls that begin in the block at a moment of `time.monotonic()`, if they still run then.

    Of blocks within blocks, the earliest moment holds.
    """
    token = _until.set(min((end for end in (moment, _until.get()) if end is not None), default=None))
    try:
        yield
    finally:
        _until.reset(token)


def give_up_all() -> None:
    """End all calls in flight with KeyboardInterrupt, and let no other begin: the process is to end."""
    _stopped.set()
    give_up_open(KeyboardInterrupt())


def give_up_open(failure: BaseException) -> None:
    """End all calls in flight with an error."""
    for call in _open.copy():
        call.give_up(failure)


class _LoopThread:
    """The loop on which all requests run, in a thread that ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may come while the thread holds it
        self._loop: CountingLoop | None = None
        self._thread: threading.Thread | None = None

    def loop(self) -> CountingLoop:
        with self._lock:
            if self._loop is None:
                self._loop = CountingLoop(_current.get)
                self._thread = threading.Thread(target=self._loop.run_forever, name="r2p-calls", daemon=True)
                self._thread.start()
            return self._loop

    def is_here(self) -> bool:
        return threading.current_thread() is self._thread


_thread = _LoopThread()


def event_loop() -> CountingLoop:
    """The loop on which all requests run."""
    return _thread.loop()


def is_on_loop() -> bool:
    """Whether the caller runs on that loop, and so must not wait for it."""
    return _thread.is_here()


def _forget() -> None:
    global _thread
    _thread = _LoopThread()  # a forked process has no threads but its own
    _open.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)
