"""A model's replies as the server gave them. DSPy hands its adapters the texts alone, so history entries are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any

import dspy
from dspy.lm15 import RefusalPart, Response, TextPart, ThinkingPart

from r2p_dspy.dspy_internals import seen_as


@dataclass(frozen=True)
class Reply:
    """A model's reply.

    Args:
        text: the answer.
        thought: the thought, where the server keeps it apart from the text.
        refusal: the refusal in the model's words, where the server keeps it apart from the text.
        tools: the names of the tools that it calls.
        finish: why it ended: "stop", "length", "content_filter", …; None if it is not known.
        tokens: how many tokens it has, the thought included; None if they were not counted.
    """

    text: str = ""
    thought: str = ""
    refusal: str = ""
    tools: tuple[str, ...] = ()
    finish: str | None = None
    tokens: int | None = None


_collectors: ContextVar[tuple[list[Reply], ...]] = ContextVar("r2p_replies", default=())


@contextmanager
def collect_replies(replies: list[Reply] | None = None) -> Iterator[list[Reply]]:
    """The replies that `listening` models give in this block, in order; appended to `replies`, if given."""
    replies = [] if replies is None else replies
    token = _collectors.set((*_collectors.get(), replies))
    try:
        yield replies
    finally:
        _collectors.reset(token)


def report_reply(reply: Reply) -> None:
    """Tell the blocks around this call about a reply; for models that answer from a store."""
    for replies in _collectors.get():
        replies.append(reply)


class ListeningLM(dspy.BaseLM):
    """Stands before a model's own class and reports its replies, also where the history is off.

    A history entry is the only place where DSPy 3.4 hands out the whole response of a call.
    """

    def __call__(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with _history_entries():
            return super().__call__(prompt, messages=messages, **kwargs)

    async def acall(self, prompt: Any = None, *, messages: Any = None, **kwargs: Any) -> Any:
        with _history_entries():
            return await super().acall(prompt, messages=messages, **kwargs)

    def update_history(self, entry: dict[str, Any]) -> None:
        for reply in _replies(entry["response"]):
            report_reply(reply)
        if not getattr(dspy.settings, "r2p_history_off", False):
            super().update_history(entry)  # type: ignore[no-untyped-call]


@contextmanager
def _history_entries() -> Iterator[None]:
    """Let DSPy make history entries; `ListeningLM.update_history` drops them where the user has turned them off."""
    if not dspy.settings.disable_history:
        yield
        return
    with dspy.context(disable_history=False, r2p_history_off=True):
        yield


def listening(lm: Any) -> Any:
    """The same model, reporting its replies; anything but a `dspy.BaseLM` is returned as it is."""
    if not isinstance(lm, dspy.BaseLM) or isinstance(lm, ListeningLM):
        return lm
    kind: Any = type(lm)  # the type checker takes no class for hashable
    return seen_as(lm, _listening_class(kind))


@cache
def _listening_class(kind: Any) -> Any:  # takes and returns a subclass of `dspy.BaseLM`
    return type(kind.__name__, (ListeningLM, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def _replies(response: Any) -> Iterator[Reply]:
    """The replies in the response of a history entry: of DSPy's own client, or shaped as OpenAI's."""
    for part in response if isinstance(response, tuple | list) else (response,):
        if isinstance(part, Response):
            yield _of_response(part)
            continue
        tokens = _get(_get(part, "usage"), "completion_tokens")
        for choice in _get(part, "choices") or ():
            message = _get(choice, "message")
            beside = _get(message, "provider_specific_fields")  # where LiteLLM puts what is OpenAI's own
            refusal = _get(message, "refusal") or _get(beside, "refusal")
            calls = (_get(_get(call, "function"), "name") for call in _get(message, "tool_calls") or ())
            yield Reply(
                text=str(_get(message, "content") or ""),
                thought=str(_get(message, "reasoning_content") or ""),
                refusal=str(refusal or ""),
                tools=tuple(map(str, calls)),
                finish=_get(choice, "finish_reason"),
                tokens=tokens,
            )


def _of_response(response: Response) -> Reply:
    def written(kind: type[TextPart | ThinkingPart | RefusalPart]) -> str:
        return "".join(part.text for part in response.message.parts if isinstance(part, kind))

    return Reply(
        text=written(TextPart),
        thought=written(ThinkingPart),
        refusal=written(RefusalPart),
        tools=tuple(call.name for call in response.tool_calls),
        finish=response.finish_reason,
        tokens=response.usage.output_tokens,
    )


def _get(record: Any, name: str) -> Any:
    """A value of a mapping or of an object; None if it has none."""
    return record.get(name) if isinstance(record, Mapping) else getattr(record, name, None)
