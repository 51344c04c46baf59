"""Continuous batching: calls of many threads share the forward passes of one model.

One background thread owns the model. A new call joins the running ones at the next token; a call that is finished or
cancelled leaves at once.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel

from r2p_dspy.engines.local.masks import mask
from r2p_dspy.engines.local.prefill import Prefill
from r2p_dspy.engines.local.rows import Row, Stopped, choose
from r2p_dspy.engines.local.slots import SlotCache, cache_argument, pass_for
from r2p_dspy.engines.weights import is_large
from r2p_dspy.errors import ConfigError

# Not transformers' own batching: `generate()` draws all rows from one generator and cannot drop or add a row, and
# `generate_batch` took 21 s for 192 tokens from a cold start on one core.


@dataclass
class BatchStatistics:
    """Counts of a batch so far."""

    calls: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    steps: int = 0  # forward passes over running rows, one or several in each
    forward_passes: int = 0  # summed over the calls: those in which each took part, that over its prompt included


class Batcher:
    """Runs rows on one model: decoder-only, with full attention in all layers.

    Args:
        end: ids of the tokens that end a turn.
        max_rows, cache_bytes, threads: as for `TransformersEngine`. A single row always runs.

    While it runs, the model's weights must stay as they are: it keeps what the model computed of prompts.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        end: set[int],
        *,
        max_rows: int = 32,
        cache_bytes: int | None = None,
        threads: int | None = None,
    ) -> None:
        _check(model)
        if model.device.type == "cpu":
            # transformers copies keys and values for each head that shares them; torch's CPU kernel needs no copies.
            os.environ.setdefault("TRANSFORMERS_SDPA_FORCE_GQA", "1")
        config = model.config.get_text_config(decoder=True)
        self.model = model
        self.end = end
        self.max_rows = max_rows
        if cache_bytes is None:
            cache_bytes = 8 << 30 if model.device.type != "cpu" else 1 << 30 if is_large(model) else 512 << 20
        self._tokens = cache_bytes // _token_bytes(config, model.dtype)
        self.max_tokens = self._tokens - self._tokens // 4
        self.threads = threads
        if threads is None and model.device.type == "cpu" and not is_large(model):  # a second core would wait
            self.threads = 1
        embeddings: Any = model.get_input_embeddings()  # typed as any module
        self.vocabulary: int = embeddings.num_embeddings
        self.served = BatchStatistics()
        self.closed = False
        self._work = threading.Condition()
        # A row moves through these: waiting, admitted (its prompt is due), running (in the cache).
        self._waiting: deque[Row] = deque()
        self._admitted: deque[Row] = deque()
        self._running: list[Row] = []
        self._prefilled = Prefill(model, self._tokens)
        self._cache, self._cache_argument = SlotCache(self.max_tokens), cache_argument(model)
        self._thread: threading.Thread | None = None

    def submit(self, row: Row) -> Row:
        """Queue a row and return it at once."""
        if not row.prompt or not 0 <= min(row.prompt) <= max(row.prompt) < self.vocabulary:
            raise ConfigError("a prompt needs at least one token, and each must be in the model's vocabulary")
        if row.limit < 1:
            raise ConfigError(f"limit must be at least 1, not {row.limit}")
        with self._work:
            if self.closed:
                raise Stopped("the engine is closed")
            self._waiting.append(row)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="r2p-engine", daemon=True)
                self._thread.start()
            self._work.notify()
        return row

    def run(self, rows: Iterable[Row]) -> list[Row]:
        """Queue rows, wait for all, and return them. They start together, whatever the timing of threads is."""
        with self._work:
            submitted = [self.submit(row) for row in rows]
        return [row.wait() for row in submitted]

    def close(self) -> None:
        """Fail the rows that still run, and end the thread. Idempotent."""
        with self._work:
            self.closed = True
            self._work.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=10)

    # ---- everything below runs in the model's thread ----

    @torch.inference_mode()  # type: ignore[untyped-decorator, unused-ignore]
    def _run(self) -> None:
        if self.threads is not None:
            torch.set_num_threads(self.threads)  # of this thread, and of threads that first use torch later
        try:
            while True:
                with self._work:
                    while not (self._waiting or self._running or self.closed):
                        self._work.wait()
                    if self.closed:
                        raise Stopped("the engine was closed")
                    self._admit()
                for row in [row for row in self._running if row.cancelled]:
                    self._leave(row, "cancelled")
                for row in [row for row in self._running if row.is_late]:
                    self._leave(row)
                    self._finish(row, error=TimeoutError(f"no answer within {row.timeout:g} s; raise the timeout"))
                while self._admitted:
                    self._prefill(self._admitted[0])
                    self._admitted.popleft()
                if self._running:
                    self._step()
        except BaseException as cause:  # whatever it is, no caller may be left waiting
            self._fail_all(cause)

    def _admit(self) -> None:
        """Admit the waiting rows that may start now, in their order; drop the cancelled ones."""
        for row in [row for row in self._waiting if row.cancelled]:
            self._waiting.remove(row)
            self._finish(row, "cancelled")
        widest = max((row.reserved for row in self._running), default=0)
        while self._waiting and len(self._running) + len(self._admitted) < self.max_rows:
            rows = len(self._running) + len(self._admitted) + 1
            widest = max(widest, self._waiting[0].reserved)
            if rows > 1 and self._cache.slots_for(rows) * widest > self.max_tokens:
                break
            self._admitted.append(self._waiting.popleft())
            self._admitted[-1].begin()

    def _prefill(self, row: Row) -> None:
        """Run the forward pass over a row's prompt and what must follow it, which gives its first token."""
        self._write(row, row.write_forced)
        if row.done.done():
            return
        try:
            # One prompt at a time: it fills the cores anyway, and beside others, padded, it would round differently.
            cache, logits = self._prefilled(row.prompt + row.tokens)
            row.forward_passes += 1
            self._continue([row], logits)
            if not row.done.done():
                self._cache.join(cache, row.reserved, more=len(self._admitted) - 1)
                self._running.append(row)
        except Exception as cause:  # e.g. out of memory: this row fails, the others continue
            self._finish(row, error=_stopped(cause))
        self._share_memory()

    def _step(self) -> None:
        """Run the forward pass that most rows wait for; a row counts the more, the longer it has waited.

        To run every pass that is due would be two or three passes over few rows each, which cost as much as full ones.
        """
        self._share_memory()
        due: dict[int, dict[int, list[int]]] = {}
        for slot, row in enumerate(self._running):
            unread = row.unread(self._cache.lengths[slot])
            due.setdefault(pass_for(len(unread)), {})[slot] = unread
            row.waited += 1
        tokens = max(due, key=lambda tokens: sum(self._running[slot].waited for slot in due[tokens]))
        for slot in due[tokens]:
            self._running[slot].waited = 0
        self._pass(due[tokens], tokens)

    def _share_memory(self) -> None:
        """Let prompts be remembered in what the running rows leave free."""
        self._prefilled.resize(max(0, self._tokens - self._cache.allocated))

    def _pass(self, unread: dict[int, list[int]], tokens: int) -> None:
        """Run one forward pass over up to so many tokens of some slots; rows that have read all get their next one."""
        inputs = self._cache.inputs(unread, tokens, self.model.device, self.model.dtype)
        inputs[self._cache_argument] = self._cache
        logits = self.model(**inputs, use_cache=True).logits
        self._cache.advance()
        self.served.steps += 1
        for slot in unread:
            self._running[slot].forward_passes += 1
        ready = [slot for slot, ids in unread.items() if len(ids) <= tokens]
        rows = [self._running[slot] for slot in ready]
        self._continue(rows, self._cache.last(logits, ready))
        for row in rows:
            if row.done.done():
                self._leave(row)

    def _continue(self, rows: list[Row], logits: torch.Tensor) -> None:
        """Give rows their next tokens, from logits of shape (rows, vocabulary)."""
        constrained = {i: row.constrained for i, row in enumerate(rows) if row.constrained is not None}
        allowed, forced = mask(logits, constrained)
        for i, (row, token) in enumerate(zip(rows, choose(allowed, rows), strict=True)):
            self._write(row, partial(row.write, token, ends=token in self.end, forced=i in forced))

    def _write(self, row: Row, write: Callable[[], None]) -> None:
        """Let a row write; if it ends with that, or fails, finish it."""
        try:
            write()
        except Exception as cause:
            self._finish(row, error=cause)
        else:
            if row.finish is not None:
                self._finish(row, row.finish)

    def _leave(self, row: Row, finish: str | None = None) -> None:
        slot = self._running.index(row)
        self._cache.leave(slot)
        last = self._running.pop()
        if slot < len(self._running):
            self._running[slot] = last  # as in the cache
        if finish is not None:
            self._finish(row, finish)

    def _finish(self, row: Row, finish: str | None = None, *, error: BaseException | None = None) -> None:
        row.finish = finish
        self.served.calls += 1
        self.served.cancelled += finish == "cancelled"
        self.served.input_tokens += len(row.prompt)
        self.served.output_tokens += row.generated
        self.served.forward_passes += row.forward_passes
        if error is None:
            row.done.set_result(row)
        else:
            row.done.set_exception(error)
        try:
            row.tell(None)
        except Exception:  # the listener is gone, e.g. with its event loop
            pass

    def _fail_all(self, cause: BaseException) -> None:
        with self._work:
            rows = [*self._running, *self._admitted, *self._waiting]
            self._running, self._cache = [], SlotCache(self.max_tokens)
            self._prefilled = Prefill(self.model, self._tokens)
            self._admitted.clear()
            self._waiting.clear()
            self._thread = None  # the next call starts a new one
        for row in rows:
            if not row.done.done():
                self._finish(row, error=_stopped(cause))


def _stopped(cause: BaseException) -> Stopped:
    if isinstance(cause, Stopped):
        return cause
    error = Stopped(f"generation failed: {cause!r}")
    error.__cause__ = cause
    return error


def _token_bytes(config: Any, dtype: torch.dtype) -> int:  # Any: attributes of a config depend on the model
    """Bytes of the keys and values of one token."""
    heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers: int = config.num_hidden_layers
    size: int = dtype.itemsize
    return 2 * layers * heads * width * size


def _check(model: PreTrainedModel) -> None:
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds and getattr(config, "sliding_window", None):
        kinds = {"sliding_attention"}
    takes = inspect.signature(model.forward).parameters
    missing = {"position_ids", cache_argument(model), "logits_to_keep"} - set(takes)
    if kinds - {"full_attention"} or missing or config._attn_implementation not in ("sdpa", "eager"):
        reasons = ", ".join(sorted(kinds - {"full_attention"}) or sorted(missing) or [config._attn_implementation])
        raise ConfigError(
            f"{type(model).__name__} cannot run in-process ({reasons}): serve it with vLLM and use hosted_vllm/NAME"
        )
