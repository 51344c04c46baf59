"""Writing answers and feedback from many requests at once: one thread, and one transaction for all that wait."""

import asyncio
import threading
from concurrent.futures import Future
from queue import Empty, SimpleQueue

from programs.feedback.answers import Answer, Answers, Feedback

_MOST = 256  # entries of one transaction

_Waiting = tuple[Answer | Feedback, "Future[None]"]


class Writer:
    """Writes the entries of a service, each when it comes, those that come meanwhile together.

    Args:
        answers: where they are kept.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self._thread.start()

    async def write(self, entry: Answer | Feedback) -> None:
        """Keep an entry; feedback is on the disk when this returns. Raises `StoreError` where nothing was kept."""
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # an entry that waits is written, also where its request is cancelled
        self._queue.put((entry, done))
        await asyncio.wrap_future(done)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        ends = False
        while not ends:
            batch = [self._queue.get()]
            try:
                while len(batch) < _MOST and batch[-1] is not None:
                    batch.append(self._queue.get_nowait())
            except Empty:
                pass
            ends = batch[-1] is None
            self._write([waiting for waiting in batch if waiting is not None])

    def _write(self, batch: list[_Waiting]) -> None:
        entries = [entry for entry, _ in batch]
        failure: BaseException | None = None
        try:
            if entries:
                self._answers.write(entries, synced=any(isinstance(entry, Feedback) for entry in entries))
        except Exception as error:  # the thread goes on: later entries are not at fault
            failure = error
        for _, done in batch:
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)
