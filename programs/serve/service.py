"""What a running service holds: programs, the store, answers, counts."""

import asyncio
import gc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from programs.feedback.opening import open_answers
from programs.feedback.writing import Writer
from programs.serve.config import ServeConfig
from programs.serve.limits import InFlight
from programs.serve.metrics import Metrics
from programs.serve.served import ServedProgram, served_programs
from programs.serve.tracing import Tracing, configured
from r2p_dspy.stores import Histories, open_store

_THREADS = 16  # for stores, beside one for each call


class Service:
    """What a running service holds.

    Args:
        config: what it does.

    Raises:
        R2PError: one line on what is wrong with a program, the model or the store.
    """

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.in_flight = InFlight(config.max_in_flight)
        self.metrics = Metrics(lambda: self.in_flight.calls)
        self.tracing: Tracing = configured()
        self._profiles = None if config.store is None else open_store(config.store)
        self.histories = None if self._profiles is None else Histories(self._profiles)
        self.answers = None if config.store is None else open_answers(config.store)
        self.writer = None if self.answers is None else Writer(self.answers)
        self.programs: dict[str, ServedProgram] = served_programs(config, self.histories)

    async def check(self) -> None:
        """Raise `StoreError` if the store cannot be read now."""
        if self._profiles is not None and self.answers is not None:
            await asyncio.to_thread(self._profiles.version, "readiness")
            await asyncio.to_thread(self.answers.check)

    async def delete_user(self, user: str) -> dict[str, Any]:
        """Delete a user's items, answers and feedback."""
        assert self.histories is not None and self.answers is not None
        answers = await asyncio.to_thread(self.answers.delete_user, user)
        return {"answers": answers, "items": await asyncio.to_thread(self.histories.delete_user, user)}

    @asynccontextmanager
    async def running(self, app: FastAPI) -> AsyncIterator[None]:
        """The time in which requests are served; closes everything at the end."""
        with ThreadPoolExecutor(self.config.max_in_flight + _THREADS, "serve") as threads:
            asyncio.get_running_loop().set_default_executor(threads)
            gc.collect()
            gc.freeze()  # what was loaded until now stays: looking through it again and again takes a third of the time
            yield
        self.close()

    def close(self) -> None:
        """Write what waits, and close the store."""
        if self.writer is not None and self.answers is not None and self._profiles is not None:
            self.writer.close()
            self.answers.close()
            self._profiles.close()
        self.tracing.close()
