"""Turning a request of DSPy into a row of the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dspy.lm15 import ContextLengthError, InvalidRequestError, Request, UnsupportedFeatureError

from r2p_dspy.decoding.loops import WINDOW, is_endless, stops_loops
from r2p_dspy.engines.answer import Decode
from r2p_dspy.engines.chat import Chat, conversation
from r2p_dspy.engines.lm import seeded
from r2p_dspy.engines.local.rows import Row

DEFAULT_MAX_TOKENS = 1024  # of a request that sets none
_LOOP_AFTER, _LOOP_EVERY = 256, 32  # tokens: an answer that is shorter is no loop worth a look

_EXTENSIONS = {"continue_final_message", "add_generation_prompt"}
_UNSUPPORTED = ("response_format", "tool_choice", "logprobs", "probabilities")


def to_row(
    request: Request,
    chat: Chat,
    *,
    context: int,
    timeout: float | None,
    emit: Callable[[int | None], object] | None = None,
) -> tuple[Row, bool]:
    """The row that answers a request, and whether its prompt ends inside a thought.

    `TransformersEngine` says which settings of a request are read. `context` is tokens of prompt and answer together.
    """
    config = request.config
    continues, prompts = _mode(request)
    thinks = None if config.reasoning is None else not config.reasoning.is_off
    prompt, inside = chat.encode(request, continues=continues, prompts=prompts, thinks=thinks)
    room = context - len(prompt)
    if room < 1:
        raise ContextLengthError(
            f"the prompt has {len(prompt)} tokens; with one to generate it exceeds the model's context of {context}"
        )
    row = Row(
        prompt=prompt,
        limit=min(config.max_tokens or DEFAULT_MAX_TOKENS, room),
        temperature=1.0 if config.temperature is None else config.temperature,
        top_p=1.0 if config.top_p is None else config.top_p,
        top_k=config.top_k,
        seed=seeded(config.seed, prompt),
        stop=_stop_check(chat.decode, config.stop) if config.stop else None,
        emit=emit,
        timeout=timeout,
    )
    return row, inside


def beginning(request: Request) -> str:
    """The text of the answer that a request continues; empty for a new answer."""
    continues, _ = _mode(request)
    return conversation(request, continues=True)[-1]["content"] if continues else ""


def loop_check(decode: Decode) -> Callable[[list[int]], bool] | None:
    """A function that says whether some tokens repeat themselves for ever; None where the call wants no such end."""
    if not stops_loops():
        return None

    def loops(tokens: list[int]) -> bool:
        if len(tokens) < _LOOP_AFTER or len(tokens) % _LOOP_EVERY:
            return False
        return is_endless(decode(tokens[-WINDOW:]))

    return loops


def _stop_check(decode: Decode, strings: Sequence[str]) -> Callable[[list[int]], bool]:
    """A function that says whether the latest of some tokens completes one of the strings."""
    tail = max(len(string.encode()) for string in strings) + 4  # a token is at least one byte, so these hold the string

    def stops(tokens: list[int]) -> bool:
        text = decode(tokens[-tail:])
        return any(string in text for string in strings)

    return stops


def _mode(request: Request) -> tuple[bool, bool]:
    """Whether to continue the last message, and whether to open an assistant's turn; raises for other features."""
    config = request.config
    refused = ["tools"] if request.tools else []
    refused += [f"config.{name}" for name in _UNSUPPORTED if getattr(config, name) is not None]
    refused += [f"config.{name}" for name in ("frequency_penalty", "presence_penalty") if getattr(config, name)]
    extensions = config.extensions or {}
    refused += [f"config.extensions.{name}" for name in sorted(extensions.keys() - _EXTENSIONS)]
    if refused:
        raise UnsupportedFeatureError(f"in-process models do not support {', '.join(refused)}", feature=refused[0])
    continues = bool(extensions.get("continue_final_message", False))
    prompts = bool(extensions.get("add_generation_prompt", not continues))
    if continues and prompts:
        raise InvalidRequestError("continue_final_message needs add_generation_prompt=False")
    return continues, prompts
