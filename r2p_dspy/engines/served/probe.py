"""Which server is at an address: vLLM, llama.cpp or SGLang, found out by asking it once."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlsplit

from dspy.lm15 import LM15Error, TransportError, UnsupportedFeatureError
from dspy.utils.exceptions import LMError

from r2p_dspy.engines.served.deadline import in_flight
from r2p_dspy.engines.served.holding import Holding
from r2p_dspy.engines.served.servers.llamacpp import LlamaCppServer
from r2p_dspy.engines.served.servers.server import Prompt, Server
from r2p_dspy.engines.served.servers.sglang import SGLangServer
from r2p_dspy.engines.served.servers.transport import Transport, has_no_route
from r2p_dspy.engines.served.servers.vllm import VLLMServer

_SERVERS: dict[str, Callable[[Transport], Server]] = {  # by the owner of their models
    "vllm": VLLMServer,
    "llamacpp": LlamaCppServer,
    "sglang": SGLangServer,
}
_PROBE, _PROBE_BYTES = 2.0, 1_000_000  # seconds to ask a server who it is, and bytes of its answer
_AGAIN = 30.0  # seconds after which a server that did not say is asked once more

_owners: dict[tuple[str, str], str] = {}  # by address and key; "" for a server that is none of the three
_silent: dict[tuple[str, str], float] = {}  # until when the servers that did not say are not asked
_making = threading.Lock()
_locks: defaultdict[tuple[str, str], threading.Lock] = defaultdict(threading.Lock)

# Hosts of models that cannot be steered, and need not be asked.
_VENDORS = (
    "openai.com azure.com anthropic.com googleapis.com mistral.ai groq.com together.xyz together.ai fireworks.ai "
    "openrouter.ai deepseek.com x.ai cohere.com cohere.ai perplexity.ai cerebras.ai nvidia.com amazonaws.com "
    "databricks.com deepinfra.com aliyuncs.com moonshot.cn moonshot.ai z.ai bigmodel.cn siliconflow.cn "
    "siliconflow.com sambanova.ai hyperbolic.xyz novita.ai nebius.com huggingface.co github.ai "
    "ibm.com snowflakecomputing.com cloudflare.com minimax.io ai21.com replicate.com"
).split()


def may_be_own(api_base: str) -> bool:
    """Whether a server at an address may be a user's own, not a vendor's closed API.

    Examples:
        >>> may_be_own("http://localhost:8080/v1"), may_be_own("https://api.openai.com/v1")
        (True, False)
    """
    try:
        host = urlsplit(api_base).hostname or ""
    except ValueError:
        return False  # no address
    return not any(host == vendor or host.endswith(f".{vendor}") for vendor in _VENDORS)


class Address:
    """An address of a model server; threads may share it.

    Args:
        transport: sends requests there.
        key: the server's key.
        owner: which server it is, if that is known; else it is asked.
    """

    def __init__(self, transport: Transport, key: str, owner: str | None = None) -> None:
        self._transport, self._key, self._owner = transport, key, owner
        self._holdings: dict[str, Holding] = {}

    @property
    def timeout(self) -> float | None:
        """Seconds of a request, or of a whole stream; None for no deadline."""
        return self._transport.timeout

    @property
    def steers(self) -> bool:
        """Whether the server may be able to steer; nothing is asked."""
        owner = self._owner if self._owner is not None else _owners.get((self._transport.url, self._key))
        return owner is None or (bool(owner) and self._client.steers)

    def server(self) -> Server:
        """The server's client.

        Raises:
            UnsupportedFeatureError: it is none that can be steered, or does not say which one it is.
        """
        if not self._ask():
            raise UnsupportedFeatureError(
                f"the server at {self._transport.url} is no vLLM, llama.cpp or SGLang, so it cannot be steered",
                feature="steering",
            )
        return self._client

    def holding(self, model: str) -> Holding:
        """What the server is counted on to hold a model's answers to; raises as `server`."""
        return self._holdings.setdefault(model, Holding(self.server(), model))

    def prompt(self, model: str, messages: list[dict[str, str]], template: dict[str, Any]) -> Prompt:
        """The token ids of a chat, as `Server.prompt`. Another server than was found at first is asked anew, later."""
        try:
            return self._client.prompt(model, messages, template)
        except (LM15Error, KeyError, TypeError) as error:
            if self._owner is not None or not _may_be_anothers(error):
                raise
            before = _owners.pop((self._transport.url, self._key), "")
            if self._ask() == before and isinstance(error, LM15Error):
                raise
            self._holdings.clear()
            vars(self).pop("_client", None)
            message = f"the server at {self._transport.url} does not answer as {before} does"
            raise UnsupportedFeatureError(message, feature="steering") from error

    @cached_property
    def _client(self) -> Server:
        return _SERVERS[self._ask()](self._transport)

    def _ask(self) -> str:
        """The owner of the server's models, "" if that is no server which can be steered."""
        if self._owner is not None:
            return self._owner
        known = (self._transport.url, self._key)
        with _locks[known]:
            if known not in _owners and time.monotonic() < _silent.get(known, 0):
                return ""
            if known not in _owners:
                try:
                    with in_flight(_PROBE, _PROBE_BYTES, apart=True):  # what comes of it does not end the call
                        models = self._transport.get("/v1/models")
                except (TransportError, LMError):  # it may be there later
                    _silent[known] = time.monotonic() + _AGAIN
                    return ""
                except LM15Error:
                    models = None
                _owners[known] = _owner(models)
            return _owners[known]


def _may_be_anothers(error: Exception) -> bool:
    """Whether an error may come from another server than was found at first."""
    return not isinstance(error, LM15Error) or isinstance(error, UnsupportedFeatureError) or has_no_route(error)


def _owner(models: object) -> str:
    cards = models.get("data") if isinstance(models, dict) else None
    owners = [card.get("owned_by") for card in cards or () if isinstance(card, dict)]
    return str(owners[0]) if owners and owners[0] in _SERVERS else ""


def address_of(api_base: str, key: str, timeout: float | None, owner: str | None) -> Address:
    """The address of a server; the same for the same arguments, so that it remembers what the server has said."""
    with _making:  # else threads that begin together would have one each
        return _made(api_base, key, timeout, owner)


@lru_cache(maxsize=32)
def _made(api_base: str, key: str, timeout: float | None, owner: str | None) -> Address:
    return Address(Transport(api_base, key, timeout), key, owner)
