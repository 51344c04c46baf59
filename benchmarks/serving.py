"""A service whose engine answers at once, and a client that costs little: what `benchmarks.serve` measures with.

`python -m benchmarks.serving URL` starts the service as `cli.py serve` does, on a free port.
"""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, ServerError, TextPart, Usage

from benchmarks.answering import citing
from programs.serve.config import ServeConfig
from programs.serve.server import run
from programs.serve.service import Service

FAULTS = "R2P_BENCHMARK_FAULTS"  # the share of the engine's calls that fail
PROGRAM = "/v1/programs/lamp2"


class Instant:
    """An engine that cites the first item of the prompt, at once; some of its calls fail."""

    def __init__(self, faults: float = 0.0) -> None:
        self._faults, self._random = faults, random.Random(0)

    def complete(self, request: Request) -> Response:
        if self._random.random() < self._faults:
            raise ServerError("the engine fails, as it was told")
        text = citing({"messages": [{"content": request.messages[-1].text or ""}]})
        usage = Usage(input_tokens=1, output_tokens=1, total_tokens=2)
        message = Message.assistant([TextPart(text.partition("\n\n")[2])])
        return Response(id=None, model="instant", message=message, finish_reason="stop", usage=usage)

    def close(self) -> None:
        pass


class AsyncInstant:
    """The same for async calls."""

    def __init__(self, engine: Instant) -> None:
        self._engine = engine

    async def complete(self, request: Request) -> Response:
        return self._engine.complete(request)

    async def aclose(self) -> None:
        pass


def instant_lm(faults: float = 0.0) -> dspy.LM:
    """A model of that engine."""
    engine = Instant(faults)
    return dspy.LM("instant/m", engine=engine, async_engine=AsyncInstant(engine), cache=False, num_retries=0)


def main(store: str) -> None:
    service = Service(ServeConfig.of(tasks=["lamp2"], store=store, port=0))
    lm = instant_lm(float(os.environ.get(FAULTS, "0")))
    service.programs = {name: replace(served, lm=lm) for name, served in service.programs.items()}
    asyncio.run(run(service))


class Running:
    """A service in a process of its own.

    Args:
        process: the process.
        port: on which it listens.
    """

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def resources(self) -> tuple[float, int, int]:
        """Megabytes in memory, threads, and open descriptors."""
        status = open(f"/proc/{self.process.pid}/status").read()  # noqa: PTH123, SIM115
        numbers = {name: int(value) for name, value in re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE)}
        descriptors = len(os.listdir(f"/proc/{self.process.pid}/fd"))  # noqa: PTH208
        return numbers["VmRSS"] / 1024, numbers["Threads"], descriptors


@contextmanager
def service(store: str, faults: float = 0.0) -> Iterator[Running]:
    """A running service; it is stopped at the end."""
    environment = {**os.environ, FAULTS: str(faults)}
    command = [sys.executable, "-m", "benchmarks.serving", store]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.search(r":(\d+) ", line)
        if found is None:
            raise SystemExit(f"the service did not start: {line}")
        yield Running(process, int(found[1]))
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
        process.stdout.close()


class Client:
    """One connection to a service, kept alive; httpx would cost more than the service does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, path: str, body: Any, cut: float | None = None) -> tuple[int, Any]:
        """Post a body, and give status and body of the response; status 0 for a connection that is cut after `cut`."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        content = json.dumps(body).encode()
        head = [f"POST {path} HTTP/1.1", "Host: h", "Content-Type: application/json", f"Content-Length: {len(content)}"]
        writer.write("\r\n".join([*head, "", ""]).encode() + content)
        if cut is not None:
            await asyncio.sleep(cut)
            self.close()
            return 0, None
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"content-length: (\d+)", answer, re.IGNORECASE)
        content = await reader.readexactly(int(length[1])) if length else b""
        if re.search(r"connection: close", answer, re.IGNORECASE):
            self.close()
        return int(answer.split(" ", 2)[1]), json.loads(content) if content else None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
        self._streams = None


if __name__ == "__main__":
    main(sys.argv[1])
