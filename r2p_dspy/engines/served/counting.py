"""An event loop that counts what its connections receive, whichever HTTP client made them.

DSPy's own client, LiteLLM's and OpenAI's all read a response into memory, whatever its size, and none has a bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

# Any: protocols and transports of asyncio, to which these stand in by their methods.


class Receiver(Protocol):
    """What receives responses, and says of each whether it may have so many bytes."""

    def accepts(self, size: int) -> bool: ...


class CountingLoop(asyncio.SelectorEventLoop):
    """An event loop on which a response that its receiver does not accept is dropped as it comes.

    Args:
        receiver: the receiver of the response to a request that is written now; None accepts everything.
    """

    def __init__(self, receiver: Callable[[], Receiver | None]) -> None:
        super().__init__()
        self._receiver = receiver

    async def create_connection(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        _, counting = await super().create_connection(
            lambda: _CountingProtocol(protocol_factory(), self._receiver), *args, **kwargs
        )
        return counting.transport, counting.protocol


class _CountingProtocol(asyncio.Protocol):
    """Stands before a client's protocol. A response is what comes between two writes: HTTP/1.1 has them in turn."""

    transport: _CountingTransport

    def __init__(self, protocol: Any, receiver: Callable[[], Receiver | None]) -> None:
        self.protocol, self._find_receiver = protocol, receiver
        self._receiver: Receiver | None = None
        self._received = 0

    def writing(self) -> None:
        """A request is written, by a task of its receiver's."""
        self._receiver, self._received = self._find_receiver(), 0

    def connection_made(self, transport: Any) -> None:
        self.transport = _CountingTransport(transport, self)
        self.protocol.connection_made(self.transport)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._receiver is None or self._receiver.accepts(self._received):
            self.protocol.data_received(data)

    def eof_received(self) -> bool | None:
        keeps_open: bool | None = self.protocol.eof_received()
        return keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()


class _CountingTransport:
    """A transport that tells its protocol of writes."""

    def __init__(self, transport: Any, counting: _CountingProtocol) -> None:
        self._transport, self._counting = transport, counting

    def write(self, data: bytes) -> None:
        self._counting.writing()
        self._transport.write(data)

    def writelines(self, lines: Iterable[bytes]) -> None:
        self._counting.writing()
        self._transport.writelines(lines)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
