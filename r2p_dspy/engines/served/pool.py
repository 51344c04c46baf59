"""The servers of one model: which of them a call asks, and which are away for now."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

from dspy.lm15 import LM15Error, ServerError, TransportError
from dspy.utils.exceptions import LMError, LMServerError, LMTransportError

from r2p_dspy.engines.served.deadline import CallInFlight, in_flight
from r2p_dspy.engines.served.servers.transport import Transport

_SLACK = 1.25  # how much more than its share of the calls in flight a server may have for its owners' sake
_SILENT = 10.0  # seconds without an answer after which a server with calls in flight is looked at
_LOOK = 5.0  # seconds that a look may take
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0  # seconds between two looks at a server that is away


@dataclass(eq=False)
class _Server:
    address: str
    calls: set[CallInFlight] = field(default_factory=set)  # in flight there
    failures: int = 0  # one after another
    away: bool = False
    heard: float = 0.0  # when it was last heard of, by `time.monotonic`
    next_look: float = 0.0


class Pool:
    """Chooses a server for each call, and looks after those that do not answer; threads may share it.

    A call without an owner goes to the server with the fewest calls in flight. An owner's calls go to one server,
    unless that has more than its share of the calls in flight (consistent hashing with bounded loads, arXiv
    1608.01350). A server that cannot be reached or fails is away until it answers a look; it gets a call only if all
    others are away too. One that has been silent is looked at when another call begins; if it does not answer, its
    calls in flight are given up, to be made elsewhere.

    Args:
        addresses: of the servers, at least one.
        looks: whether the server at an address answers.
        silent: seconds without an answer after which a server with calls in flight is looked at.
    """

    def __init__(self, addresses: Sequence[str], looks: Callable[[str], bool], *, silent: float = _SILENT) -> None:
        self._servers = [_Server(address) for address in addresses]
        self._looks, self._silent = looks, silent
        self._lock, self._turn = threading.Lock(), 0

    def away(self) -> list[str]:
        """The addresses of the servers that are away."""
        return [server.address for server in self._servers if server.away]

    def first(self, owner: str | None) -> str:
        """The address that a call of an owner would go to now."""
        with self._lock:
            return self._choose(owner, ()).address

    @contextmanager
    def asking(self, owner: str | None, tried: Collection[str], call: CallInFlight) -> Iterator[str]:
        """The address of a server to make a call to in the block, none of those tried while there is another."""
        self._look_after()
        with self._lock:
            server = self._choose(owner, tried)
            if not server.calls:
                server.heard = time.monotonic()
            server.calls.add(call)
        try:
            yield server.address
            self._heard(server)
        except LMError as error:
            if isinstance(error, LMTransportError | LMServerError):
                self._leave(server)
            raise
        finally:
            with self._lock:
                server.calls.discard(call)

    def _choose(self, owner: str | None, tried: Collection[str]) -> _Server:
        untried = [server for server in self._servers if server.address not in tried] or self._servers
        present = [server for server in untried if not server.away] or untried
        if owner is None:
            self._turn += 1
            turned = [*present[self._turn % len(present) :], *present[: self._turn % len(present)]]
            return min(turned, key=lambda server: len(server.calls))
        calls = 1 + sum(len(server.calls) for server in present)
        most = math.ceil(_SLACK * calls / len(present))
        ranked = sorted(present, key=lambda server: _rank(owner, server.address))
        return next(server for server in ranked if len(server.calls) < most)

    def _heard(self, server: _Server) -> None:
        with self._lock:
            server.failures, server.away, server.heard = 0, False, time.monotonic()

    def _leave(self, server: _Server) -> None:
        with self._lock:
            server.failures += 1
            server.away = True
            pause = min(_FIRST_PAUSE * 2 ** (server.failures - 1), _LONGEST_PAUSE)
            server.next_look = time.monotonic() + pause

    def _look_after(self) -> None:
        """Look at the servers that are away or silent, in threads: a look may take seconds."""
        now = time.monotonic()
        with self._lock:
            due = [server for server in self._servers if self._is_due(server, now)]
            for server in due:
                server.next_look = now + _LOOK + _LONGEST_PAUSE  # none beside this one
        for server in due:
            threading.Thread(target=self._look_at, args=(server,), name="r2p-look", daemon=True).start()

    def _is_due(self, server: _Server, now: float) -> bool:
        silent = bool(server.calls) and now - server.heard >= self._silent
        return (server.away or silent) and now >= server.next_look

    def _look_at(self, server: _Server) -> None:
        if self._looks(server.address):
            with self._lock:  # `failures` stays: a server that answers looks but no calls is looked at less and less
                server.away, server.heard, server.next_look = False, time.monotonic(), 0.0
            return
        self._leave(server)
        for call in server.calls.copy():
            call.give_up(LMTransportError(f"the server at {server.address} has fallen silent"))


def _rank(owner: str, address: str) -> bytes:
    """A server's place for an owner: rendezvous hashing, where a server that leaves moves its own owners alone."""
    return blake2b(f"{address}\0{owner}".encode(errors="backslashreplace"), digest_size=8).digest()


@lru_cache(maxsize=32)
def pool_of(addresses: tuple[str, ...], key: str) -> Pool:
    """The pool of these servers; the same for the same arguments, so that copies of a model share its loads."""
    transports: dict[str, Transport] = {}

    def looks(address: str) -> bool:
        transport = transports.setdefault(address, Transport(address, key, _LOOK))
        try:
            with in_flight(_LOOK, apart=True):
                transport.get("/v1/models")
        except (TransportError, ServerError, LMError):
            return False
        except LM15Error:  # it refuses, so it is there
            pass
        return True

    return Pool(addresses, looks)
