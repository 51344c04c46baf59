"""A real service on 127.0.0.1 for tests, in a thread, whose engine says what a test wants."""

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import dspy
import httpx
from dspy.lm15 import Message, Response, TextPart, Usage

from programs.serve.config import ServeConfig
from programs.serve.server import Server
from programs.serve.service import Service
from tests.scripted import STAGES, ScriptedEngine, written

QUESTION = {"inputs": {"description": "A keeper in a lighthouse."}}
ITEMS = [{"id": "m7", "description": "a lighthouse in the rain", "tag": "romance"}]
ASKED = {**QUESTION, "profile": ITEMS}


def right(**changes):
    """An answer of task 2 that cites its first item."""
    return written(**{**STAGES, **changes})


class SlowEngine:
    """An async engine that answers after some seconds, and counts the calls that it began, gave up and finished."""

    def __init__(self, seconds):
        self.seconds, self.begun, self.given_up, self.finished = seconds, 0, 0, 0

    async def complete(self, request):
        self.begun += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        self.finished += 1
        message = Message.assistant([TextPart(right())])
        usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
        return Response(id=None, model="test", message=message, finish_reason="stop", usage=usage)

    async def aclose(self):
        pass


class _Async:
    def __init__(self, engine):
        self.complete_now = engine.complete

    async def complete(self, request):
        return self.complete_now(request)

    async def aclose(self):
        pass


@contextmanager
def serving(*texts, engine=None, own_model=False, **options):
    """A service of task 2; gives a client of it, with the service as `client.service` and the server as `.server`.

    Args:
        texts: what the model writes, one a call, the last one again and again.
        engine: an async engine in place of these.
        own_model: ask the model of the options.
        options: of `ServeConfig.of`.
    """
    service = Service(ServeConfig.of(**{"tasks": ["lamp2"], "port": 0, **options}))
    scripted = ScriptedEngine(*(texts or [right()]))
    lm = dspy.LM("scripted/s", engine=scripted, async_engine=engine or _Async(scripted), cache=False, num_retries=0)
    if not own_model:
        service.programs.update({name: replace(served, lm=lm) for name, served in service.programs.items()})
    server = Server(service)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        with httpx.Client(base_url=server.address, timeout=30) as client:
            client.service, client.server, client.scripted = service, server, scripted
            yield client
    finally:
        server.should_exit = True
        thread.join(30)


def wait_until(holds, seconds=15):
    """Wait until something holds; fail if it does not within so many seconds."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, "it does not hold"
        time.sleep(0.01)


def ask(client, body=ASKED, program="lamp2", **options):
    return client.post(f"/v1/programs/{program}", json=body, **options)


def problem(response):
    """The status of a problem and its sentence; it must be in RFC 9457 form, and no stack trace."""
    body = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert {*body} == {"type", "title", "status", "detail"} and body["status"] == response.status_code
    assert "\n" not in body["detail"] and "Traceback" not in body["detail"] and 'File "' not in body["detail"]
    return response.status_code, body["detail"]
