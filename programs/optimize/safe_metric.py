"""Failures while compiling: of the metric on an example, and of the program; counted, and the first one kept."""

import threading
import traceback
from collections.abc import Callable
from typing import Any

from dspy.utils.callback import BaseCallback

from r2p_dspy import R2P
from r2p_dspy.errors import ConfigError, R2PError


class MetricError(R2PError):
    """A metric fails on every example: a fault in the metric's own code.

    Args:
        message: one line with the metric's first error.
        traceback: the traceback of that error, which shows the metric's own code.
    """

    def __init__(self, message: str, traceback: str):
        super().__init__(message)
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.traceback)


class SafeMetric:
    """A task's score that takes its own failure on an example for a failed example.

    Args:
        score: (example, prediction) to a number in [0, 1].

    Example:
        >>> score = SafeMetric(lambda example, prediction: 1 / prediction)
        >>> score(None, 1), score(None, 0), score.failed, score.asked
        (1.0, 0.0, 1, 2)
    """

    def __init__(self, score: Callable[[Any, Any], float]):
        self.score = score
        self.asked = self.failed = 0
        self.first: Exception | None = None
        self._lock = threading.Lock()

    def __call__(self, example: Any, prediction: Any) -> float:
        if prediction is None:  # the program failed, which is counted where it does
            return 0.0
        try:
            value, failure = float(self.score(example, prediction)), None
            if not 0 <= value <= 1:
                raise ConfigError(f"the task's score must be in [0, 1], higher is better, not {value}")
        except Exception as error:
            value, failure = 0.0, error
        with self._lock:
            self.asked += 1
            self.failed += failure is not None
            self.first = self.first or failure
        return value

    def check(self) -> None:
        """Stop where no example could be scored at all.

        Raises:
            MetricError: with the first failure.
        """
        if self.first is None or self.failed < self.asked:
            return
        said = "".join(traceback.format_exception(self.first))
        raise MetricError(
            f"the metric fails on all {self.asked} examples, first with {type(self.first).__name__}: {self.first}; "
            "mend it, and compile again",
            said,
        ) from self.first


class FailureCounter(BaseCallback):
    """The calls of a program that raised, as DSPy's evaluations take them for a 0 and its optimizers only log them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: BaseException | None = None
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
                self.first = self.first or exception

    def check(self, examples: int) -> None:
        """Stop where the program fails on all examples.

        Raises:
            BaseException: the first failure.
        """
        if self.first is not None and self.count >= examples:
            raise self.first
