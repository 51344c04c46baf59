"""One call in a batch: its settings, its tokens so far, and how its next token is chosen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue

import torch
from dspy.lm15 import Usage

from r2p_dspy.engines.local.masks import ConstrainedAnswer


class Stopped(RuntimeError):
    """The batch is closed, or its loop failed; `__cause__` is what failed it."""


@dataclass(eq=False)
class Row:
    """One call. `Batcher.submit` runs it.

    A row is a context manager: leaving its block cancels it if it still runs. `stop` and `emit` are called in the
    model's thread.
    """

    prompt: list[int]  # token ids to continue; they may end with the beginning of an answer
    limit: int  # tokens to generate at most; at least 1
    temperature: float = 0.0  # 0 takes the likeliest token
    top_p: float = 1.0  # draw from the smallest set of tokens whose probability reaches this
    seed: int = 0  # of this row's own random numbers
    stop: Callable[[list[int]], bool] | None = None  # gets the tokens so far after each token; True ends the row
    loops: Callable[[list[int]], bool] | None = None  # the same; True ends the row as one that would go on for ever
    top_k: int | None = None  # draw from this many of the likeliest tokens
    emit: Callable[[int | None], object] | None = None  # gets each token, then None; default: tokens are queued
    timeout: float | None = None  # seconds that it may run, from when it leaves the queue; None is no limit
    ends: float | None = None  # when it must have ended, by `time.monotonic`; set when it leaves the queue
    constrained: ConstrainedAnswer | None = None  # what its tokens must follow; not to be shared between rows

    tokens: list[int] = field(default_factory=list)  # without the token that ended the turn
    forced: list[bool] = field(default_factory=list)  # of each of them: whether `constrained` left no choice
    end: int | None = None  # the token that ended the turn, where the model wrote one
    generated: int = 0  # tokens written, the one that ended the turn included
    forward_passes: int = 0  # in which it took part; that over its prompt counts as one
    finish: str | None = None  # "stop", "length", "loop" or "cancelled"; None also for a row that failed
    done: Future[Row] = field(default_factory=Future)

    def __post_init__(self) -> None:
        self.done.set_running_or_notify_cancel()  # from now on only the model's thread ends it
        self.cancelled = False
        self.waited = 0  # forward passes since the last that it took part in
        self._generator: torch.Generator | None = None
        self._queue: SimpleQueue[int | None] = SimpleQueue()

    def __enter__(self) -> Row:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cancel()

    def tell(self, token: int | None) -> None:
        """Hand a token to the listener; None is the end."""
        (self.emit or self._queue.put)(token)

    def __iter__(self) -> Iterator[int]:
        """Tokens as they come. Raises what failed the row."""
        while (token := self._queue.get()) is not None:
            yield token
        self.done.result()

    def wait(self) -> Row:
        """Wait for the end, and return the row; raises what failed it, TimeoutError after `timeout` seconds."""
        return self.done.result()

    def begin(self) -> None:
        """The row leaves the queue: its time begins, unless it continues a row whose time has begun."""
        if self.timeout is not None and self.ends is None:
            self.ends = time.monotonic() + self.timeout

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return self.ends is not None and time.monotonic() > self.ends

    def cancel(self) -> None:
        """Leave the batch before its next step; what was generated stays in `tokens`."""
        self.cancelled = True

    def resume(self, prompt: list[int], limit: int, constrained: ConstrainedAnswer | None = None) -> Row:
        """A new row that continues another prompt, with other random numbers."""
        return Row(
            prompt,
            limit,
            self.temperature,
            self.top_p,
            seed=self.seed + 1,
            stop=self.stop,
            top_k=self.top_k,
            timeout=self.timeout,
            ends=self.ends,
            constrained=constrained,
        )

    def write(self, token: int, *, ends: bool, forced: bool = False) -> None:
        """Write a token and those that must follow it, or the token that `ends` the turn; `finish` tells the end.

        The token is `forced` where it was the only one allowed.
        """
        if ends:
            self.generated += 1
            self.end = token
            self.finish = "stop"
            return
        if self.constrained is not None:
            self.constrained.consume([token])
        self._append(token, forced)
        self.write_forced()

    def write_forced(self) -> None:
        """Write the tokens that must follow; `finish` says why the row has ended, if it has."""
        if self.constrained is None:
            return
        for token in self.constrained.forced():
            if self.finish is not None:
                return
            self._append(token, True)
        if self.constrained.is_over:
            self.finish = "stop"

    def _append(self, token: int, forced: bool) -> None:
        self.generated += 1
        self.tokens.append(token)
        self.forced.append(forced)
        self.tell(token)
        if self.stop is not None and self.stop(self.tokens):
            self.finish = "stop"
        elif self.generated >= self.limit:
            self.finish = "length"
        elif self.loops is not None and self.loops(self.tokens):
            self.finish = "loop"

    def unread(self, read: int) -> list[int]:
        """The tokens that the model has not read, if it has read so many of the prompt and the answer."""
        return self.tokens[read - len(self.prompt) :]

    @property
    def usage(self) -> Usage:
        """Tokens of the prompt, and tokens generated so far."""
        return Usage(input_tokens=len(self.prompt), output_tokens=self.generated)

    @property
    def reserved(self) -> int:
        """Columns of the cache that this row may fill."""
        return len(self.prompt) + self.limit

    def uniform(self) -> float:
        """The row's next random number in [0, 1)."""
        if self._generator is None:
            self._generator = torch.Generator().manual_seed(self.seed)
        return float(torch.rand((), generator=self._generator, dtype=torch.float64).item())


def choose(logits: torch.Tensor, rows: list[Row]) -> list[int]:
    """The next token of each row, from logits of shape (rows, vocabulary).

    A row's token depends only on its own logits, settings and random numbers. Drawing inverts the cumulative
    distribution in the order of the vocabulary, so each token takes one random number.
    """
    tokens = logits.argmax(-1)
    drawn = [i for i, row in enumerate(rows) if row.temperature > 1e-5]  # below, dividing by it overflows
    if drawn:
        chosen = [rows[i] for i in drawn]
        temperatures = torch.tensor([row.temperature for row in chosen], device=logits.device)
        weights = (logits[drawn].float() / temperatures[:, None]).softmax(-1)
        for i, row in enumerate(chosen):
            if row.top_k is not None and row.top_k < weights.shape[-1]:
                weights[i].masked_fill_(weights[i] < weights[i].topk(row.top_k).values[-1], 0)
                weights[i] /= weights[i].sum()
            if row.top_p < 1:
                ranked = weights[i].sort(descending=True).values
                kept = (ranked.cumsum(-1) - ranked < row.top_p).sum().clamp(min=1)
                weights[i].masked_fill_(weights[i] < ranked[kept - 1], 0)
        cumulative = weights.double().cumsum(-1)
        draws = torch.tensor([row.uniform() for row in chosen], dtype=torch.float64, device=logits.device)
        picked = torch.searchsorted(cumulative, draws[:, None] * cumulative[:, -1:], right=True).squeeze(-1)
        tokens[drawn] = picked.clamp(max=logits.shape[-1] - 1)
    chosen_ids: list[int] = tokens.tolist()
    return chosen_ids
