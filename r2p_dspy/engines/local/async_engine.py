"""The in-process engine for DSPy's async calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from dspy.lm15 import Request, Response

from r2p_dspy.decoding.constraining import active_constraint
from r2p_dspy.decoding.steering import next_steer
from r2p_dspy.engines.local.engine import TransformersEngine
from r2p_dspy.engines.local.rows import Row
from r2p_dspy.engines.local.stream import Answer, Event, lm15_errors


class AsyncTransformersEngine:
    """The counterpart of a `TransformersEngine` for `dspy.LM(async_engine=…)`. Both run the same model."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine = engine

    async def complete(self, request: Request) -> Response:
        """As `TransformersEngine.complete`; cancelling the task stops the generation."""
        if (steer := next_steer()) is not None:
            cancelled = threading.Event()
            try:
                return await asyncio.to_thread(self.engine.complete_steered, request, steer, cancelled)
            except asyncio.CancelledError:
                cancelled.set()
                raise
        row, answer = await self._start(request)
        with lm15_errors(), row:
            await asyncio.wrap_future(row.done)
        return answer.response(row)

    async def stream(self, request: Request) -> AsyncIterator[Event]:
        """As `TransformersEngine.stream`; closing the iterator stops the generation."""
        loop = asyncio.get_running_loop()
        tokens: asyncio.Queue[int | None] = asyncio.Queue()
        row, answer = await self._start(request, lambda token: loop.call_soon_threadsafe(tokens.put_nowait, token))
        try:
            with lm15_errors(), row:
                yield answer.start()
                while (token := await tokens.get()) is not None:
                    for event in answer.push(token):
                        yield event
                row.wait()  # it has ended; this raises what failed it
                for event in answer.finish(row):
                    yield event
        finally:
            while not row.done.done():  # closed early: the row reports its end to this event loop
                await tokens.get()

    async def _start(self, request: Request, emit: Callable[[int | None], object] | None = None) -> tuple[Row, Answer]:
        """As `TransformersEngine.start`; a grammar is compiled in a thread, so that the event loop goes on."""
        row, answer = self.engine.plan(request, emit)
        with lm15_errors():
            if active_constraint() is not None:
                await asyncio.to_thread(self.engine.constrain, row, answer)
            self.engine.submit(row)
        return row, answer

    def dump_state(self) -> dict[str, Any]:
        return self.engine.dump_state()

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> Self:
        return cls(TransformersEngine.load_state(state))

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).load_state, (self.dump_state(),)
