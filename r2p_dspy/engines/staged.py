"""Steering a model that continues an assistant's beginning but is not streamed: one request after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, UnsupportedFeatureError, Usage

from r2p_dspy.decoding.segments import Piece, ResumableSegment
from r2p_dspy.decoding.steering import PausingSteer, next_steer, steering
from r2p_dspy.engines.answer import respond_steered
from r2p_dspy.engines.chat import OPEN

# From a beginning, a mark (None: the end) and the number of tokens generated so far, to the text up to the mark and the
# response that brought it; None if no tokens are left.
Continue = Callable[[str, str | None, int], tuple[str, Response] | None]


class StagedEngine:
    """The engine of calls that are steered stage by stage: DSPy's `complete(Request) -> Response`.

    Each request has the answer so far as the assistant's beginning, and stops at the mark that ends the stage which is
    due; a last request writes the rest. Marks are sent whole, with a newline after them: a tokenizer may have one token
    for each mark, and a model continues badly after half a mark. Settings of the server are JSON: `extra` go with every
    request; with `prefix` the server continues an assistant's last message where it ends.
    """

    def __init__(self, lm: dspy.LM, extra: Mapping[str, Any], prefix: Mapping[str, Any]) -> None:
        self._lm, self._extra, self._prefix = lm, extra, prefix

    def complete(self, request: Request, cancelled: threading.Event | None = None) -> Response:
        """The whole answer; once `cancelled` is set, it ends after the running request."""
        steer = next_steer()
        if not isinstance(steer, PausingSteer):
            raise UnsupportedFeatureError("the call is not steered stage by stage", feature="steering")
        reasoning = request.config.reasoning
        thinks = reasoning is not None and not reasoning.is_off
        # A template that opens the thought itself does not do so for an answer that has begun.
        opens = f"{OPEN}\n" if thinks else ""

        def follow(beginning: str, mark: str | None, generated: int) -> tuple[str, Response] | None:
            return self._continue(request, opens + beginning, mark, generated)

        segment = StagedSegment(follow, steer.pause)
        return respond_steered(request, segment, steer, inside=True if thinks else None, cancelled=cancelled)

    def _continue(
        self, request: Request, beginning: str, mark: str | None, generated: int
    ) -> tuple[str, Response] | None:
        """What follows a beginning of the answer, up to a mark; None if no tokens are left."""
        config, messages = request.config, request.messages
        if config.max_tokens is not None:
            if config.max_tokens <= generated:
                return None
            config = replace(config, max_tokens=config.max_tokens - generated)
        if mark is not None:
            config = replace(config, stop=(mark, *config.stop))
        extensions = {**(config.extensions or {}), **self._extra}
        # Servers without such settings (Anthropic's, Bedrock's) refuse a beginning that ends in white space.
        stripped = beginning if self._prefix else beginning.rstrip()
        if stripped:
            extensions |= self._prefix
            messages = (*messages, Message.assistant(stripped))
        # The call that this request is a part of counts its tokens and stands in the history.
        with steering(None), dspy.context(usage_tracker=None, disable_history=True):
            config = replace(config, extensions=extensions or None)
            response = self._lm(replace(request, messages=messages, config=config), cache=False)
        text = "".join(getattr(part, "text", "") for part in response.message.parts)
        return text.removeprefix(beginning[len(stripped) :]), response


class StagedSegment(ResumableSegment[str]):
    """One stretch of an answer that is steered stage by stage; `pause` says at which mark to stop next."""

    def __init__(self, follow: Continue, pause: Callable[[], str | None]) -> None:
        self._follow, self._pause = follow, pause
        self._text, self._prompted, self._generated = "", 0, 0

    def __iter__(self) -> Iterator[str]:
        mark: str | None = ""
        while mark is not None:
            before, mark = mark, self._pause()
            beginning = "".join(piece.content for piece in self._began) + self._text
            followed = self._follow(beginning, mark, self.usage.output_tokens or 0)
            if followed is None:
                self.finish = "length"
                return
            text, response = followed
            self.finish = response.finish_reason
            self._prompted += response.usage.input_tokens or 0
            self._generated += response.usage.output_tokens or 0
            if mark is not None:
                # A server does not say whether it stopped at the mark or at the end: assume the mark, but only once.
                if self.finish == "length" or (mark == before and not text.strip()):
                    mark = None
                else:
                    text = f"{text.removesuffix(mark)}{mark}\n"
            self._text += text
            yield text

    def stop(self) -> None:
        """Do nothing: between two requests nothing runs."""

    def _own_usage(self) -> Usage:
        return Usage(input_tokens=self._prompted, output_tokens=self._generated)

    def _written(self) -> Iterable[tuple[str, str]]:
        return [(self._text, self._text)]

    def _encode(self, text: str) -> str:
        return text

    def _cut(self, content: str, shown: str, kept: int) -> Piece[str]:
        return Piece(shown[:kept], shown[:kept])

    def _following(self, began: Sequence[Piece[str]]) -> StagedSegment:
        return StagedSegment(self._follow, self._pause)
