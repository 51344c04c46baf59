"""A transformers model in this process, as an engine for `dspy.LM`."""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

import torch
from dspy.lm15 import Request, Response, UnsupportedFeatureError

from r2p_dspy.decoding.constraining import active_constraint
from r2p_dspy.decoding.steering import Steer, next_steer
from r2p_dspy.engines import weights
from r2p_dspy.engines.answer import respond_steered
from r2p_dspy.engines.chat import OPEN, Chat
from r2p_dspy.engines.local.batching import Batcher, BatchStatistics
from r2p_dspy.engines.local.masks import ConstrainedAnswer, Grammars
from r2p_dspy.engines.local.request import beginning, loop_check, to_row
from r2p_dspy.engines.local.rows import Row
from r2p_dspy.engines.local.segment import LocalSegment
from r2p_dspy.engines.local.stream import Answer, LocalStream, lm15_errors
from r2p_dspy.errors import ConfigError


class TransformersEngine:
    """Runs a chat model of transformers in this process. Calls of all threads share its forward passes.

    A DSPy engine: `complete(Request) -> Response`, `stream(Request)`, `close()`. `AsyncTransformersEngine` serves
    `dspy.LM(async_engine=…)`. It reads these settings of `Request.config`: `max_tokens` (default 1024; at most what
    fits the context), `temperature` (0 takes the likeliest token; default 1), `top_p`, `top_k`, `seed`, `stop`,
    `reasoning`, and of the extensions `continue_final_message` with `add_generation_prompt=False`, which continues the
    last message, an assistant's, where it ends. It refuses other features with `UnsupportedFeatureError`. An answer
    that repeats itself for ever ends with the reason "length" before its limit, unless the call is steered or its LM
    has `stop_loops=False`.

    Within `constraining` an answer follows the constraint's grammar, and ends where that ends. Tokens that the grammar
    forces are written without asking the model, which reads them in one pass. `provider_data` of a response has its
    `forward_passes`; the one over the prompt counts.

    The same request, seed and sample give the same text, whatever else runs: on a CPU to the bit (up to two query heads
    for each key), elsewhere up to rounding. Without a seed the prompt decides.

    Args:
        source: `pocket`, `smollm2`, `gguf:FILE`, a directory with a transformers model, or a hub name.
        device: torch's name; default: the first GPU, else the CPU.
        dtype: torch's name; default: the checkpoint's own on a GPU; on a CPU float32, or bfloat16 for models of 50
            million parameters and more where the processor multiplies it faster.
        max_batch: calls in flight, at least 1; more calls wait for their turn.
        cache_bytes: bytes of keys and values: up to three quarters for the calls in flight, the rest for prompts that
            may come again; default: 8 GiB, on a CPU 1 GiB, or 512 MiB for models of less than 50 million parameters.
        reasoning: whether the model thinks between `<think>` tags. Its thought becomes a `ThinkingPart`, from which
            DSPy fills `dspy.Reasoning` fields. Otherwise the tags are part of the text.
        threads: cores for one forward pass; default: one for a small model on a CPU, else torch's own choice.
        timeout: seconds that an answer may take, from where it leaves the queue; None is no limit.

    Raises:
        ConfigError: there is no such model, or it cannot run in this process.

    Examples:
        >>> from dspy.lm15 import Config, Message, Request
        >>> engine = TransformersEngine("pocket")  # doctest: +SKIP
        >>> hello = Request(engine.model_name, (Message.user("Hello"),), config=Config(max_tokens=8))  # doctest: +SKIP
        >>> engine.complete(hello).usage.input_tokens  # doctest: +SKIP
        9
    """

    supported_params = frozenset({"temperature", "max_tokens", "top_p", "top_k", "seed", "stop", "stream"})

    def __init__(
        self,
        source: str,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_batch: int = 32,
        cache_bytes: int | None = None,
        reasoning: bool = False,
        threads: int | None = None,
        timeout: float | None = None,
    ) -> None:
        if max_batch < 1:
            raise ConfigError(f"max_batch must be at least 1, not {max_batch}")
        model, tokenizer, directory = weights.load(source, device=device, dtype=dtype)
        try:
            self._chat = Chat(tokenizer)
            ends = model.generation_config.eos_token_id
            ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
            self._batch = Batcher(model, ends, max_rows=max_batch, cache_bytes=cache_bytes, threads=threads)
            self._grammars = Grammars(tokenizer, self._batch.vocabulary, ends, self._chat.decode)
        except ValueError as cause:
            raise ConfigError(f"model {weights.option_value(source)!r}: {cause}") from cause
        self.source = source
        self.fingerprint = weights.fingerprint(directory)
        self.supports_reasoning = reasoning
        config = model.config.get_text_config(decoder=True)
        self.context_window: int = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        # A tokenizer with one token for a marker of DSPy's chat adapter is of a model that was trained on nothing else.
        self.knows_markers_only = self._chat.count("[[ ## completed ## ]]\n") == 1
        narrow = model.device.type == "cpu" and model.dtype == torch.bfloat16
        self._narrowed = "bfloat16" if narrow else None  # on a processor that is fast with it
        self.options = _unusual(
            {
                "device": device,
                "dtype": dtype,
                "max_batch": max_batch,
                "cache_bytes": cache_bytes,
                "reasoning": reasoning,
                "threads": threads,
                "timeout": timeout,
            }
        )
        self._timeout = timeout
        weakref.finalize(self, self._batch.close)

    @classmethod
    def shared(cls, source: str, **options: Any) -> Self:  # Any: the keyword arguments of `__init__`
        """The engine in use for this model and these options, or a new one."""
        where = weights.locate(source)
        options = _unusual(options)
        with _sharing:
            engine: Self | None = _shared.get(key := (cls, where, *sorted(options.items())))
            outdated = engine is not None and Path(where).is_dir() and weights.fingerprint(where) != engine.fingerprint
            if engine is None or engine._batch.closed or outdated:
                engine = _shared[key] = cls(source, **options)
            return engine

    @property
    def model_name(self) -> str:
        """`local/NAME-FINGERPRINT`. DSPy's cache tells engines apart by name, so the name changes with the weights."""
        name = Path(self.source.removeprefix("gguf:")).name
        variants = [self.options.get("dtype") or self._narrowed, "thinking" if self.supports_reasoning else None]
        return "-".join([f"local/{name}", self.fingerprint, *(str(x) for x in variants if x)])

    @property
    def served(self) -> BatchStatistics:
        """Calls, tokens and forward passes so far, with those of cancelled calls."""
        return self._batch.served

    @property
    def constrains(self) -> Literal["grammar"] | None:
        """What answers can be held to; None where llguidance is missing, or does not read the tokenizer."""
        return "grammar" if self._grammars.missing is None else None

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` inside a message, without those of the template."""
        return self._chat.count(text)

    def complete(self, request: Request) -> Response:
        """The whole answer.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            UnsupportedFeatureError, InvalidRequestError: the request cannot be run as it is, or under its constraint.
            TimeoutError: no answer came in time.
            ServerError: the generation failed, or the engine was closed.
        """
        if (steer := next_steer()) is not None:
            return self.complete_steered(request, steer)
        row, answer = self.start(request)
        with lm15_errors(), row:
            row.wait()
        return answer.response(row)

    def complete_steered(self, request: Request, steer: Steer, cancelled: threading.Event | None = None) -> Response:
        """The whole answer, with the corrections of a steer; the generation ends soon after `cancelled` is set."""
        row, answer = self.plan(request)
        with lm15_errors():
            self.constrain(row, answer)
            segment = LocalSegment(self._batch, row, self._chat)
            return respond_steered(request, segment, steer, inside=answer.inside, cancelled=cancelled)

    def stream(self, request: Request) -> LocalStream:
        """The answer as events. Closing the stream early stops the generation; `usage` counts what was generated."""
        return LocalStream(self, *self.start(request))

    def start(self, request: Request, emit: Callable[[int | None], object] | None = None) -> tuple[Row, Answer]:
        """Submit a request; return the row that runs, and the answer to make of it. `emit` is as for `Row`."""
        row, answer = self.plan(request, emit)
        with lm15_errors():
            self.constrain(row, answer)
            self.submit(row)
        return row, answer

    def plan(self, request: Request, emit: Callable[[int | None], object] | None = None) -> tuple[Row, Answer]:
        """The row that answers a request, free and not yet submitted, and the answer to make of it."""
        row, inside = to_row(request, self._chat, context=self.context_window, timeout=self._timeout, emit=emit)
        begun = beginning(request) or (f"{OPEN}\n" if inside else "")
        return row, Answer(request, self._chat.decode, inside if self.supports_reasoning else None, begun)

    def constrain(self, row: Row, answer: Answer) -> None:
        """Hold a planned row to the active constraint, if there is one. Compiling its grammar takes milliseconds."""
        if (constraint := active_constraint()) is None:
            return
        if (missing := self._grammars.missing) is not None:
            raise UnsupportedFeatureError(missing, feature="constraining")
        row.constrained = ConstrainedAnswer(self._grammars, constraint, answer.begun)

    def submit(self, row: Row) -> None:
        """Run a planned row whose answer is not steered."""
        row.loops = loop_check(self._chat.decode)  # a steer sees to the loops of its answers itself
        self._batch.submit(row)

    def close(self) -> None:
        """Stop the engine. Calls in flight fail."""
        self._batch.close()

    def dump_state(self) -> dict[str, Any]:
        """What a saved program needs to find the engine again. It holds a path only if `source` is one."""
        saved = {name: value for name, value in self.options.items() if name in _SAVED}
        return {"source": self.source, "fingerprint": self.fingerprint, **saved}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> Self:
        """The engine of a saved program; raises ConfigError if the model is gone, or its weights have changed."""
        options = dict(state)
        source, saved = options.pop("source"), options.pop("fingerprint")
        engine = cls.shared(source, **options)
        if engine.fingerprint != saved:
            raise ConfigError(
                f"the program was saved with {source!r} at fingerprint {saved}, and its fingerprint now is "
                f"{engine.fingerprint}: load the program without its LM and set one with r2p_dspy.connect"
            )
        return engine

    def __deepcopy__(self, memo: object) -> Self:
        return self  # optimizers copy programs; the copies share the model

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).load_state, ({**self.dump_state(), **self.options},)


_SAVED = ("dtype", "max_batch", "reasoning")  # the others belong to the machine, and to how long one waits there
_shared: weakref.WeakValueDictionary[tuple[Any, ...], Any] = weakref.WeakValueDictionary()
_sharing = threading.Lock()
_DEFAULTS = {name: option.default for name, option in inspect.signature(TransformersEngine).parameters.items()}


def _unusual(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value != _DEFAULTS.get(name)}
