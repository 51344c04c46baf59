"""Rows in flight: calls in threads, their ends in the order of the rows, and what these say of the server."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, NamedTuple

from programs.calls.failures import Failure, failure_of
from programs.predict.input_rows import InputRow
from r2p_dspy.errors import CheckError, DataError, StoreError

_KEPT = ("user",)  # fields of a row that are kept until it is written
_LEAST = 3  # failures of the server one after another that end a run of fewer threads


class EndedRow(NamedTuple):
    """A row whose call has ended."""

    row: InputRow  # without its fields, except for its user
    answer: Any
    error: BaseException | None
    ends_run: bool  # whether the error is no fault of the row


@dataclass(eq=False)
class _Pending:
    row: InputRow
    ended: bool = False
    answer: Any = None
    error: BaseException | None = None
    failure: Failure | None = None
    began: int = 0  # as a number of the events until then
    failed: int = 0


class InFlight:
    """Answers rows in threads.

    A failure of the server (see `programs.calls.failures`) that has outlasted its retries is the row's, once the server
    has answered a row that began after it. If as many rows as there are threads fail one after another, the server is
    away, and the run ends. At the end of the input, so it does if the server cannot be reached or has answered nothing.

    Args:
        threads: calls in flight; as many rows again wait for a thread.
        ahead: rows that may have ended behind one that has not, for each thread.
    """

    def __init__(self, threads: int, ahead: int):
        self._pool, self._changed = ThreadPoolExecutor(threads), threading.Condition()
        self._most_running, self._most_waiting, self._most_failing = 2 * threads, ahead * threads, max(threads, _LEAST)
        self._waiting = deque[_Pending]()
        self._running = self._events = self._failing = 0
        self._latest_answered = 0  # when the row began that is the latest of those answered
        self._over = False

    def results(self, rows: Iterable[InputRow], answer: Callable[[InputRow], Any]) -> Iterator[EndedRow]:
        """Call `answer` with each row; what becomes of a row comes as soon as those before it have come.

        After an error that ends the run, no further row begins, and those before it still come.
        """
        remaining, more = iter(rows), True
        while more or self._waiting:
            with self._changed:
                self._changed.wait_for(lambda: self._is_settled(more) or (more and self._has_room()))  # noqa: B023
                settled = self._is_settled(more)
            if settled:
                yield self._ended(self._waiting.popleft())
            elif (row := next(remaining, None)) is not None:
                self._start(row, answer)
            else:
                more = False
            more = more and not self._over

    def close(self) -> None:
        """Start no further call. Those in flight go on to their ends."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, row: InputRow, answer: Callable[[InputRow], Any]) -> None:
        pending = _Pending(row._replace(fields={name: row.fields[name] for name in _KEPT if name in row.fields}))

        def work() -> Any:
            pending.began = self._next_event()
            return answer(row)

        with self._changed:
            self._running += 1
            self._waiting.append(pending)
        self._pool.submit(copy_context().run, work).add_done_callback(lambda call: self._end(pending, call))

    def _end(self, pending: _Pending, call: Future[Any]) -> None:
        if call.cancelled():
            return
        error = pending.error = call.exception()
        pending.answer = None if error else call.result()
        pending.failure = failure_of(error) if error else None
        with self._changed:
            pending.ended = True
            self._running -= 1
            if pending.failure is not None and pending.failure.scope == "server":
                pending.failed = self._next_event()
                self._failing += 1
            elif not isinstance(error, DataError):  # for which no model was asked
                self._latest_answered = max(self._latest_answered, pending.began)
                self._failing = 0
            self._over = self._over or _is_fatal(pending) or self._failing >= self._most_failing
            self._changed.notify_all()

    def _next_event(self) -> int:
        with self._changed:
            self._events += 1
            return self._events

    def _has_room(self) -> bool:
        return self._running < self._most_running and len(self._waiting) < self._most_waiting

    def _is_settled(self, more: bool) -> bool:
        """Whether it is clear what becomes of the first row."""
        if not self._waiting or not self._waiting[0].ended:
            return False
        first = self._waiting[0]
        is_last = not self._running and not (more and self._has_room())
        return self._is_clear(first) or self._over or is_last

    def _is_clear(self, pending: _Pending) -> bool:
        """Whether no later row can change what becomes of one that has ended."""
        failure = pending.failure
        return failure is None or failure.scope != "server" or self._latest_answered > pending.failed

    def _ended(self, pending: _Pending) -> EndedRow:
        failure = pending.failure
        unreachable = failure is not None and failure.cause in ("connection", "rate_limit")
        away = not self._is_clear(pending) and (self._over or not self._latest_answered or unreachable)
        return EndedRow(pending.row, pending.answer, pending.error, ends_run=away or _is_fatal(pending))


def _is_fatal(pending: _Pending) -> bool:
    """Whether an error meets every row: a faulty check, a refused key, a full disk, a store that is away."""
    error, failure = pending.error, pending.failure
    if error is None:
        return False
    if not isinstance(error, Exception) or isinstance(error, CheckError | StoreError):
        return True
    return failure is not None and failure.scope == "run"
