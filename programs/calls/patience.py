"""Calls that fail through no fault of the program: asked again, counted, and the run's end once they are too many."""

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from dspy.utils.exceptions import LMError

from programs.calls.failures import failure_of
from programs.calls.rows import current_row
from programs.calls.usage import UsageLimiter
from r2p_dspy.engines.served.deadline import until
from r2p_dspy.errors import ConfigError, RunError

MAX_FAILURES = 0.05  # the share of the calls that may fail
ASKS = 3  # of one call; the engine's own retries are within each of them
_FIRST = 100  # the share of fewer calls says nothing, so it is that of so many
_IN_A_ROW = 5  # failures of calls during which no call was answered: the server is gone
_SILENT = ("timeout", "connection")  # what a server that is not there answers
_STOPPING = ("auth", "billing", "model")  # no later call can succeed
LAST_SECONDS = 3.0  # that calls in flight have when a run ends because calls fail


class RunStopped(BaseException):
    """The model cannot be used any longer; `error` says why. Not an `Exception`: optimizers would score that 0."""

    def __init__(self, error: Exception):
        super().__init__(error)
        self.error = error


class CallFailures:
    """Decides for one model what a failed call means: ask again, give it up, or end the run. Threads may share it.

    A call whose server failed (a cause of scope "server", see `failures.SCOPES`) is asked `ASKS` times in all, within
    one deadline. The run ends, and the limiter lets no further call begin, when

    - more than `most` of the calls, of the first 100 at least, fail when they are first asked, and by more than two
      standard errors, so that it is no chance: with 0.05, ten of the first 100;
    - five calls, one after another, fail, not all for one row, and no call is answered from the beginning of the first
      to the last's end;
    - a server that has never answered does not answer the first calls either;
    - the server refuses the user, or does not know the model.

    Args:
        limiter: closed when the run ends.
        model: its name, for messages.
        most: the share of the calls that may fail, in [0, 1].

    Raises:
        ConfigError: for a share outside [0, 1].
    """

    def __init__(self, limiter: UsageLimiter, model: str, most: float = MAX_FAILURES):
        if not 0 <= most <= 1:
            raise ConfigError(f"--max-failures is a share between 0 and 1, not {most:g}")
        self.most = most
        self.causes: Counter[str] = Counter()  # of the calls that fail when they are first asked
        self._limiter, self._model = limiter, model
        self._answered = self._unanswered = 0  # calls, at this moment
        self._in_a_row = 0  # failures of calls that began after the last answer
        self._failing: set[object] = set()  # the rows that these were made for; each call without a row is one
        self._lock = threading.Lock()

    def asks(self, seconds: float | None = None) -> Iterator[AbstractContextManager[None]]:
        """Contexts to make a call in: one after another, until the call is answered or given up.

        Args:
            seconds: the deadline of all of them together; None for no deadline.
        """
        ends = None if seconds is None else time.monotonic() + seconds
        for number in range(1, ASKS + 1):
            yield self._ask(number, ends)

    def answered(self) -> None:
        """Count a call that was answered."""
        with self._lock:
            self._answered, self._in_a_row, self._failing = self._answered + 1, 0, set()

    @contextmanager
    def _ask(self, number: int, ends: float | None) -> Iterator[None]:
        answered = self._answered
        try:
            with until(ends):
                yield
            with self._lock:
                self._unanswered -= number > 1
        except LMError as error:
            failure = failure_of(error)
            if failure is None or (failure.scope != "server" and failure.cause not in _STOPPING):
                raise
            with self._lock:
                if self._answered == answered:
                    self._in_a_row += 1
                    self._failing.add(row.row if (row := current_row()) else self._in_a_row)
                if number == 1:
                    self.causes[failure.cause] += 1
                    self._unanswered += 1
                unreachable = failure.cause in _SILENT and not self._answered
                reason = error if unreachable or failure.cause in _STOPPING else self._too_many()
            if reason is not None:
                self._limiter.close(RunStopped(reason), LAST_SECONDS)
                raise RunStopped(reason) from error
            if number == ASKS or (ends is not None and time.monotonic() >= ends):
                raise

    def _too_many(self) -> RunError | None:
        """The error that ends the run; None while the failures are few."""
        failed = self.causes.total()
        calls = self._answered + self._unanswered
        causes = ", ".join(f"{count} {cause}" for cause, count in self.causes.items())
        counted = max(calls, _FIRST)
        if failed > self.most * counted + 2 * math.sqrt(counted * self.most * (1 - self.most)):
            which = f"{failed} of {calls} calls of {self._model} failed, more than --max-failures {self.most:g} allows"
        elif self._in_a_row >= _IN_A_ROW and len(self._failing) > 1:
            which = f"{self._model} failed {self._in_a_row} times in a row"
        else:
            return None
        return RunError(f"{which} ({causes}); what was answered is kept: go on with --resume")

    def __deepcopy__(self, memo: dict[int, object]) -> "CallFailures":
        return self  # optimizers copy programs, and with them their models
