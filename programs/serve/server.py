"""Running a service until SIGTERM: then it finishes what it has, refuses what is new, and ends."""

import asyncio
import signal
from types import FrameType
from typing import Any

import click
import uvicorn

from programs.serve.app import application
from programs.serve.service import Service

_LAST = 5  # seconds for connections to close, after the requests have ended


async def run(service: Service) -> None:
    """Serve until a signal, and say where as soon as requests are taken."""
    server, config = Server(service), service.config
    serving = asyncio.ensure_future(server.serve())
    while not (server.started or serving.done()):
        await asyncio.sleep(0.02)
    if server.started:
        whom = "with a token" if config.tokens else "from this machine alone, since there are no tokens"
        click.echo(f"serving {', '.join(service.programs)} at {server.address} {whom}; /openapi.json says how to ask")
    await serving


class Server(uvicorn.Server):
    """A server that drains before it ends."""

    def __init__(self, service: Service) -> None:
        config = service.config
        super().__init__(
            uvicorn.Config(
                application(service),
                host=config.host,
                port=config.port,
                access_log=False,  # addresses name users
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=_LAST,
            )
        )
        self._service = service
        self._draining: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: Any = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains; a second one, or Ctrl-C, ends at once."""
        if self._loop is None or self._service.in_flight.draining or sig == signal.SIGINT:
            self.should_exit = True
            self.force_exit = self._service.in_flight.draining
        else:
            self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Refuse new requests, and end when those in flight have ended, or the time for them is over."""
        self._service.in_flight.draining = True
        self._draining = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        in_flight = self._service.in_flight
        try:
            async with asyncio.timeout(self._service.config.grace):
                while in_flight.requests:
                    await asyncio.sleep(0.02)
        except TimeoutError:
            self.force_exit = True
        self.should_exit = True

    @property
    def address(self) -> str:
        """Where it listens, once it has started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"
