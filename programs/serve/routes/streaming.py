"""An answer as server-sent events: each stage when it is written, then the whole answer.

event: stage    data: {"stage": "evidence", "answer": 1, "value": [{"item": "m1", "quote": "…"}]}
event: answer   data: what the request without a stream gets
event: error    data: problem details (RFC 9457)

A retry, and each candidate, is another `answer` of the call. What counts is the event `answer`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from programs.serve.answering import unless_gone
from programs.serve.problems import CLIENT_GONE, problem_of
from r2p_dspy.decoding.stages import WrittenStage, watching_stages
from r2p_dspy.values.typed import plain

MEDIA_TYPE = "text/event-stream"
_KEEP_ALIVE = 15.0  # seconds after which a comment tells proxies that the answer is still coming

Answering = Callable[[], Awaitable[dict[str, Any]]]


class EventStream(Response):
    """A response that streams an answer.

    Args:
        answering: gives the answer.
        released: called when the answer has ended, whatever ended it.
    """

    media_type = MEDIA_TYPE

    def __init__(self, answering: Answering, released: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._answering, self._released = answering, released

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending() -> None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with aclosing(events(self._answering)) as stream:
                async for event in stream:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await unless_gone(receive, sending())
        except Exception as error:
            if problem_of(error).status != CLIENT_GONE:
                raise
        finally:
            self._released()


async def events(answering: Answering) -> AsyncGenerator[bytes]:
    """The events of an answer; closing the iterator stops the model's work."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def written(stage: WrittenStage) -> None:  # in the thread that reads the text
        loop.call_soon_threadsafe(queue.put_nowait, _event("stage", _stage(stage)))

    async def work() -> None:
        try:
            with watching_stages(written):
                body = await answering()
            queue.put_nowait(_event("answer", body))
        except Exception as error:
            queue.put_nowait(_event("error", problem_of(error).body()))
        queue.put_nowait(None)

    task = asyncio.ensure_future(work())
    try:
        while True:
            try:
                async with asyncio.timeout(_KEEP_ALIVE):
                    event = await queue.get()
            except TimeoutError:
                event = b": still writing\n\n"
            if event is None:
                return
            yield event
    finally:
        task.cancel()
        await asyncio.wait((task,))


def _stage(stage: WrittenStage) -> dict[str, Any]:
    own_ids = {item.id: item.ref for item in stage.items}
    return {"stage": stage.name, "answer": stage.answer, "value": _with_own_ids(plain(stage.value), own_ids)}


def _with_own_ids(value: Any, own_ids: dict[str, Any]) -> Any:
    """Evidence and preferences, as JSON, under the items' own ids."""
    if not isinstance(value, list):
        return value
    entries = [{**entry} if isinstance(entry, dict) else entry for entry in value]
    for entry in entries:
        if isinstance(entry, dict) and isinstance(entry.get("item"), str):
            entry["item"] = own_ids.get(entry["item"], entry["item"])
        if isinstance(entry, dict) and isinstance(entry.get("items"), list):
            entry["items"] = [own_ids.get(item, item) if isinstance(item, str) else item for item in entry["items"]]
    return entries


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
