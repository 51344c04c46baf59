"""Trainings that DSPy starts, watches and can cancel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from dspy.clients.provider import TrainingJob
from dspy.clients.utils_finetune import TrainingStatus


class Cancellable:
    """Mixin for a job: it can be cancelled, and stops between two steps."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun = False
        self.steps = 0
        self._cancel_requested = threading.Event()

    @contextmanager
    def turn(self, lock: threading.Lock) -> Iterator[None]:
        """Hold the lock of the running training; raises CancelledError if the job is cancelled while it waits."""
        while not lock.acquire(timeout=0.1):
            self.check_cancelled()
        try:
            self.check_cancelled()
            self.begun = True
            yield
        finally:
            lock.release()

    def check_cancelled(self) -> None:
        """Raise CancelledError if the job was cancelled."""
        if self._cancel_requested.is_set():
            raise CancelledError(f"the training was cancelled after {self.steps} steps")


class SFTJob(Cancellable, TrainingJob):
    """A training on examples: a future that holds the trained `dspy.LM`, or the error, as DSPy's jobs do.

    `steps` counts the finished steps. The `result` of a cancelled job raises CancelledError.
    """

    def cancel(self) -> bool:
        """Stop the training after its current step; False if it is over."""
        if self.done():
            return False
        self._cancel_requested.set()
        return True

    def result(self, timeout: float | None = None) -> Any:
        """The trained LM, or the error. Interrupting the wait cancels the training."""
        try:
            return super().result(timeout)
        except KeyboardInterrupt:
            self.cancel()
            raise

    def status(self) -> TrainingStatus:
        """`pending` (another training runs), `running`, `succeeded`, `failed` or `cancelled`."""
        if self.cancelled():
            return TrainingStatus.cancelled
        if self.done():
            return TrainingStatus.failed if isinstance(self.result(), Exception) else TrainingStatus.succeeded
        return TrainingStatus.running if self.begun else TrainingStatus.pending

    def on_step(self, step: int, steps: int) -> None:
        """Count a finished step. Raises CancelledError if the job was cancelled."""
        self.steps = step
        self.check_cancelled()

    def set_result(self, result: Any) -> None:
        """Set the trained LM or the error; a CancelledError cancels the future."""
        if isinstance(result, CancelledError):
            super(TrainingJob, self).cancel()
        else:
            super().set_result(result)
