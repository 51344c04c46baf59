"""The `dspy.LM` of a served model whose every call ends: in time, with a response of bounded size, or with an error."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Literal

import anyio.from_thread
import dspy
from dspy.utils.exceptions import LMInvalidRequestError, LMProviderError, LMServerError

from r2p_dspy.dspy_internals import forwarding_stream, is_streaming
from r2p_dspy.engines.served.deadline import MAX_BYTES, CallInFlight, in_flight, is_on_loop
from r2p_dspy.engines.served.schema import held_to_schema, is_refused, refused

TIMEOUT = 120.0  # seconds
_LONGEST_PAUSE = 60.0  # seconds between two attempts, as DSPy has it


class BoundedLM(dspy.LM):
    """A `dspy.LM` with one deadline for each call, retries and their pauses included. `r2p_dspy.connect` makes it.

    Args:
        model: as for `dspy.LM`, of a model on a server.
        timeout: seconds that a call may take; None for no deadline. A call, too, may name its own.
        **kwargs: as for `dspy.LM`.

    Attributes:
        max_bytes: of one response, 8 MB unless a copy sets another (`lm.copy(max_bytes=50_000_000)`).

    Raises, when called, the errors of DSPy, among them
        LMTimeoutError: at the deadline.
        LMProviderError: for a response of more than `max_bytes`; it is not asked for again.
        LMServerError: for replies that are no answer, such as a proxy's page, after `num_retries` more attempts.

    Examples:
        >>> lm = BoundedLM("openai/gpt-4o-mini", timeout=30)
        >>> lm.kwargs["timeout"], lm.copy(timeout=5).kwargs["timeout"]
        (30, 5)
    """

    # Any: the arguments and outputs of `dspy.LM`, which are untyped.

    max_bytes = MAX_BYTES

    def __init__(self, model: str, *, timeout: float | None = TIMEOUT, **kwargs: Any) -> None:
        if timeout is not None and isinstance(kwargs.get("engine", "auto"), str):  # a custom engine has its own
            kwargs["timeout"] = timeout
        super().__init__(model, **kwargs)

    def __call__(self, *prompt: Any, **kwargs: Any) -> Any:
        if is_on_loop():  # a callback of another call
            return super().__call__(*prompt, **kwargs)
        with self._in_flight(kwargs) as call:
            if not isinstance(self.engine, str):  # it waits for the call's requests itself
                return super().__call__(*prompt, **kwargs)
            if is_streaming():  # a thread of the listener's loop
                return anyio.from_thread.run(partial(self.acall, *prompt, **kwargs))
            return call.wait(self._answer(prompt, kwargs))

    async def acall(self, *prompt: Any, **kwargs: Any) -> Any:
        if is_on_loop():
            return await super().acall(*prompt, **kwargs)
        with self._in_flight(kwargs) as call:
            if not isinstance(self.engine, str):
                return await super().acall(*prompt, **kwargs)
            with forwarding_stream() if is_streaming() else nullcontext():
                return await call.join(self._answer(prompt, kwargs))

    def _in_flight(self, kwargs: dict[str, Any]) -> AbstractContextManager[CallInFlight]:
        return in_flight({**self.kwargs, **kwargs}.get("timeout"), self.max_bytes)

    @property
    def constrains(self) -> Literal["grammar", "schema"] | None:
        """What `r2p_dspy.decoding.constraining` can hold an answer to: a JSON Schema where DSPy sends one, else None.

        DSPy sends one under its JSON adapter to models whose providers take it.
        """
        if not isinstance(self.engine, str):
            return getattr(self.engine, "constrains", None)
        takes = self.supports_response_schema and "response_format" in self.supported_params
        return "schema" if takes and not is_refused(self) else None

    async def _answer(self, prompt: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The answer, held to the schema of the active constraint in place of DSPy's own, unless that is refused."""
        if (held := held_to_schema(self, kwargs)) is None:
            return await self._ask_for_answer(prompt, kwargs)
        try:
            return await self._ask_for_answer(prompt, held)
        except LMInvalidRequestError as refusal:
            answer = await self._ask_for_answer(prompt, kwargs)
            refused(self, refusal)
            return answer

    async def _ask_for_answer(self, prompt: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The answer, asked for again while the reply is none at all. DSPy retries other failures that may pass."""
        for attempt in range(self.num_retries + 1):
            try:
                return await super().acall(*prompt, **kwargs)
            except LMProviderError as error:
                if not _is_no_answer(error):
                    raise
                if attempt == self.num_retries:
                    raise LMServerError(error.message, model=error.model, status=error.status) from error
                await asyncio.sleep(min(2**attempt, _LONGEST_PAUSE))
        raise AssertionError("unreachable")


def _is_no_answer(error: LMProviderError) -> bool:
    """Whether a server's reply was accepted, but could not be read: it is no JSON, or has another shape."""
    return type(error) is LMProviderError and (error.status is None or error.status < 300)
