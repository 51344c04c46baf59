"""The `dspy.LM` of a model that several servers serve."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

from dspy.utils.exceptions import LMError, is_retryable_lm_error

from r2p_dspy.dspy_internals import is_streaming
from r2p_dspy.engines.affinity import current_owner
from r2p_dspy.engines.keys import split_addresses
from r2p_dspy.engines.served.deadline import in_flight, is_on_loop, until
from r2p_dspy.engines.served.lm import ServedLM
from r2p_dspy.engines.served.pool import Pool, pool_of
from r2p_dspy.engines.served.probe import Address

_LONGEST_PAUSE = 60.0  # seconds between two rounds, as DSPy has it between two attempts


class SpreadLM(ServedLM):
    """A `ServedLM` of one model on several servers; `api_base` has their addresses, with commas between them.

    Each call goes to one server (see `Pool`). If that cannot be reached or fails, the call is made again on the next;
    when none is left, after a pause on all, `num_retries` times. All of it has one deadline. A call that streams to a
    listener is made once. `r2p_dspy.connect` makes this LM.

    Examples:
        >>> lm = SpreadLM("openai/m", api_base="http://one:8000/v1,http://two:8000/v1")
        >>> lm.addresses
        ('http://one:8000/v1', 'http://two:8000/v1')
    """

    # Any: the arguments and outputs of `dspy.LM`, which are untyped.

    @property
    def addresses(self) -> tuple[str, ...]:
        """The servers' addresses."""
        return split_addresses(self.kwargs.get("api_base") or "")

    @property
    def pool(self) -> Pool:
        """The servers, with what is known of them; shared by the copies of this LM."""
        return pool_of(self.addresses, str(self.kwargs.get("api_key") or "none"))

    @property
    def constrains(self) -> Literal["grammar", "schema"] | None:
        return super().constrains if self._is_one else self._at(self._first).constrains

    def __call__(self, *prompt: Any, **kwargs: Any) -> Any:
        if self._is_one:
            return super().__call__(*prompt, **kwargs)
        if not self._may_repeat:
            return self._at(self._first)(*prompt, **kwargs)
        with self._in_flight(kwargs) as call:
            for pause, attempt in self._attempts(kwargs, call.ends):
                if pause:
                    call.wait(asyncio.sleep(pause))
                with attempt as lm:
                    return lm(*prompt, **kwargs)
        raise AssertionError("unreachable")

    async def acall(self, *prompt: Any, **kwargs: Any) -> Any:
        if self._is_one:
            return await super().acall(*prompt, **kwargs)
        if not self._may_repeat:
            return await self._at(self._first).acall(*prompt, **kwargs)
        with self._in_flight(kwargs) as call:
            for pause, attempt in self._attempts(kwargs, call.ends):
                if pause:
                    await call.join(asyncio.sleep(pause))
                with attempt as lm:
                    return await lm.acall(*prompt, **kwargs)
        raise AssertionError("unreachable")

    def _attempts(
        self, kwargs: dict[str, Any], ends: float | None
    ) -> Iterator[tuple[float, AbstractContextManager[SpreadLM]]]:
        """Seconds to wait, and a context to make the call in: one after another, until the call is answered."""
        seconds, servers = {**self.kwargs, **kwargs}.get("timeout"), len(self.addresses)
        for again in range(self.num_retries + 1):
            tried: list[str] = []
            for number in range(1, servers + 1):
                pause = min(2.0 ** (again - 1), _LONGEST_PAUSE) if again and number == 1 else 0.0
                is_last = again == self.num_retries and number == servers
                yield pause, self._attempt(seconds, ends, tried, is_last)

    @contextmanager
    def _attempt(
        self, seconds: float | None, ends: float | None, tried: list[str], is_last: bool
    ) -> Iterator[SpreadLM]:
        """This LM on a server that was not tried yet; an error that another server may not have is dropped."""
        with until(ends), in_flight(seconds, self.max_bytes, apart=True) as call:
            try:
                with self.pool.asking(current_owner(), tried, call) as address:
                    tried.append(address)
                    yield self._at(address, num_retries=0)
            except LMError as error:
                is_over = ends is not None and time.monotonic() >= ends
                if is_last or is_over or not is_retryable_lm_error(error):
                    raise

    @property
    def _is_one(self) -> bool:
        """Whether this is the LM of one server, or of an engine."""
        return len(self.addresses) < 2

    @property
    def _may_repeat(self) -> bool:
        """Whether the call may be waited for, and nothing of a failed one is shown."""
        return not (is_on_loop() or is_streaming())

    @property
    def _first(self) -> str:
        return self.pool.first(current_owner())

    @property
    def _address(self) -> Address | None:
        return super()._address if self._is_one else self._at(self._first)._address

    def _at(self, address: str, **settings: Any) -> SpreadLM:
        lm: SpreadLM = self.copy(api_base=address, **settings)  # type: ignore[no-untyped-call, unused-ignore]
        lm.history = self.history
        return lm
