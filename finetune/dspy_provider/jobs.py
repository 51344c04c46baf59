"""Trainings that DSPy starts, watches and can cancel."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from dspy.clients.provider import TrainingJob
from dspy.clients.utils_finetune import TrainingStatus


class Stopping:
    """Of a job: it can be cancelled, and stops between two steps."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun = False
        self.steps = 0
        self._asked = threading.Event()

    @contextmanager
    def turn(self, lock: threading.Lock) -> Iterator[None]:
        """Hold a lock that one training at a time may hold.

        Raises:
            CancelledError: the job was cancelled before it was its turn.
        """
        while not lock.acquire(timeout=0.1):
            self.check()
        try:
            self.check()
            self.begun = True
            yield
        finally:
            lock.release()

    def check(self) -> None:
        """Raise CancelledError if the job was cancelled."""
        if self._asked.is_set():
            raise CancelledError(f"the training was cancelled after {self.steps} steps")


class SFTJob(Stopping, TrainingJob):
    """A training on examples: a future that holds the trained `dspy.LM`, or, as DSPy has it, the error.

    `steps` says how many steps are done. A cancelled job's `result` raises CancelledError.
    """

    def cancel(self) -> bool:
        """Stop the training after the step that it is in; False if it is over."""
        if self.done():
            return False
        self._asked.set()
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

    def tick(self, step: int, steps: int) -> None:
        """A step is done."""
        self.steps = step
        self.check()

    def set_result(self, result: Any) -> None:
        if isinstance(result, CancelledError):
            super(TrainingJob, self).cancel()
        else:
            super().set_result(result)
