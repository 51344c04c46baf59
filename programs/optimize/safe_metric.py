"""Failures of the metric and of the program while compiling: they are counted, and the first one is kept."""

import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

from programs.calls.failures import failure_of
from programs.calls.patience import RunStopped
from r2p_dspy import R2P
from r2p_dspy.errors import ConfigError, R2PError

_OF_ANSWER = (AdapterParseError, RecursionError)  # what cannot be read, such as "[" a thousand times
_MOST_FAULTS = 10  # of the program's own code; DSPy counts failures of the server too, and gives up at as many


class MetricError(R2PError):
    """A metric fails on every example; `traceback` is that of its first error, and shows the metric's own code."""

    def __init__(self, message: str, traceback: str):
        super().__init__(message)
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.traceback)


class SafeMetric:
    """A task's score in [0, 1] that counts its own failure on an example as a score of 0.

    Examples:
        >>> score = SafeMetric(lambda example, prediction: 1 / prediction)
        >>> score(None, 1), score(None, 0), score.failed, score.calls
        (1.0, 0.0, 1, 2)
    """

    def __init__(self, score: Callable[[Any, Any], float]):
        self.score = score
        self.calls = self.failed = 0
        self.first_error: Exception | None = None
        self._lock = threading.Lock()

    def __call__(self, example: Any, prediction: Any) -> float:
        if prediction is None:  # the program failed, which `FailureCounter` counts
            return 0.0
        error: Exception | None = None
        try:
            value = float(self.score(example, prediction))
            if not 0 <= value <= 1:
                raise ConfigError(f"the task's score must be in [0, 1], higher is better, not {value}")
        except Exception as raised:
            value, error = 0.0, raised
        with self._lock:
            self.calls += 1
            self.failed += error is not None
            self.first_error = self.first_error or error
        return value

    def check(self) -> None:
        """Raise MetricError, from the metric's own first error, if it failed on every example so far."""
        error = self.first_error
        if error is None or self.failed < self.calls:
            return
        raise MetricError(
            f"the metric fails on all {self.calls} examples, first with {type(error).__name__}: {error}; "
            "correct it, then compile again",
            "".join(traceback.format_exception(error)),
        ) from error


class FailureCounter(BaseCallback):
    """Counts calls of a program that raise. DSPy's evaluations score them 0, and its optimizers only log them.

    Where the server failed, the 0 is no score, so nothing can be compared on that example; see `failed_on`.
    """

    def __init__(self) -> None:
        self.count = self.server = 0  # failures of the program or the model, and of its server
        self.first_error: BaseException | None = None
        self.first_of_run: BaseException | None = None  # the first error that every later call meets too
        self.faults = 0  # failures of the program's own code, such as a check's
        self.first_fault: BaseException | None = None
        self._running: dict[str, str] = {}
        self._failed: set[str] = set()
        self._lock = threading.Lock()

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if isinstance(instance, R2P):
            with self._lock:
                self._running[call_id] = _question(inputs.get("kwargs", inputs))

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        with self._lock:
            question = self._running.pop(call_id, None)
            if question is None or exception is None or isinstance(exception, RunStopped):
                return
            self.first_error = self.first_error or exception
            failure = failure_of(exception)
            scope = failure.scope if failure else None
            if scope == "server":
                self.server += 1
                self._failed.add(question)
            else:
                self.count += 1
            if failure is None and isinstance(exception, Exception) and not isinstance(exception, _OF_ANSWER):
                self.faults += 1
                self.first_fault = self.first_fault or exception
            if scope == "run":
                self.first_of_run = self.first_of_run or exception

    def failed_on(self, example: dspy.Example) -> bool:
        """Whether the server failed, in any call of the program so far, on an example."""
        return _question(example.inputs()) in self._failed

    def check(self, examples: int) -> None:
        """Raise the first error if the program failed on all of so many examples; see `check_run` too."""
        self.check_run()
        if self.first_error is not None and self.count + self.server >= examples:
            raise self.first_error

    def check_run(self) -> None:
        """Raise an error that every call meets, or a fault that many meet, so that no score means anything."""
        if self.first_of_run is not None:
            raise self.first_of_run
        if self.first_fault is not None and self.faults >= _MOST_FAULTS:
            raise self.first_fault


def _question(inputs: Mapping[str, Any]) -> str:
    """An example by its texts, without the history; the same for copies of it."""
    return str(sorted((name, value) for name, value in inputs.items() if isinstance(value, str)))
