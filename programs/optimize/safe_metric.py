"""Failures of the metric and of the program while compiling: they are counted, and the first one is kept."""

import threading
import traceback
from collections.abc import Callable
from typing import Any

from dspy.utils.callback import BaseCallback

from r2p_dspy import R2P
from r2p_dspy.errors import ConfigError, R2PError


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
    """Counts calls of a program that raise. DSPy's evaluations score them 0, and its optimizers only log them."""

    def __init__(self) -> None:
        self.count = 0
        self.first_error: BaseException | None = None
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        if isinstance(instance, R2P):
            with self._lock:
                self._running.add(call_id)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        with self._lock:
            if call_id in self._running:
                self._running.discard(call_id)
                self.count += exception is not None
                self.first_error = self.first_error or exception

    def check(self, examples: int) -> None:
        """Raise the program's first error if the program failed on all of so many examples."""
        if self.first_error is not None and self.count >= examples:
            raise self.first_error
