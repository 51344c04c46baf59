"""Steering a model that continues an assistant's beginning but is not streamed: one request after another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, ServerError, UnsupportedFeatureError, Usage

from r2p_dspy.decoding.steering import Correction, active, steered, steering
from r2p_dspy.engines.answer import respond
from r2p_dspy.engines.chat import OPEN

Piece = tuple[str, str]  # a text as the model reads it, and as it stands in the answer: a note is not there


class StagedEngine:
    """The engine of calls that are steered stage by stage: DSPy's `complete(Request) -> Response`.

    Each request has the answer so far as the assistant's beginning, and stops at the mark that ends the stage which is
    due; a last one writes the rest. Marks are whole, and a newline follows them, since a tokenizer may have a token of
    its own for each, and a model goes on badly from half of one.

    Args:
        lm: what is asked.
        extra: what it takes beside a request's own settings.
        prefix: settings with which it continues an assistant's last message where that ends.

    Raises:
        UnsupportedFeatureError: before anybody reads along, where the reader cannot say where to pause.
    """

    def __init__(self, lm: dspy.LM, extra: Mapping[str, Any], prefix: Mapping[str, Any]) -> None:
        self._lm, self._extra, self._prefix = lm, extra, prefix

    def complete(self, request: Request, cancelled: threading.Event | None = None) -> Response:
        """The whole answer; once `cancelled` is set, it ends after the request that is under way."""
        steer = active()
        pause = getattr(steer, "pause", None)
        if steer is None or pause is None:
            raise UnsupportedFeatureError("nobody reads along stage by stage", feature="steering")

        def read(text: str) -> Correction | None:
            if cancelled is not None and cancelled.is_set():
                raise ServerError("the call was cancelled")
            return steer(text)

        reasoning = request.config.reasoning
        thinks = reasoning is not None and not reasoning.is_off
        # A template that opens the thought itself does not do so for an answer that has begun.
        opens = f"{OPEN}\n" if thinks else ""
        text, last = steered(StagedSegment(lambda text, *how: self._ask(request, opens + text, *how), pause), read)
        used = Usage(input_tokens=last.used[0], output_tokens=last.used[1])
        return respond(request, text, True if thinks else None, last.finish, used)

    def _ask(self, request: Request, beginning: str, mark: str | None, spent: int) -> tuple[str, Response] | None:
        """What follows a beginning of the answer, up to a mark, and how it came; None if no tokens are left."""
        config, messages = request.config, request.messages
        if config.max_tokens is not None:
            if config.max_tokens <= spent:
                return None
            config = replace(config, max_tokens=config.max_tokens - spent)
        if mark is not None:
            config = replace(config, stop=(mark, *config.stop))
        extensions = {**(config.extensions or {}), **self._extra}
        # Those that need no telling refuse a beginning which ends in white space (Anthropic's, Bedrock's).
        stripped = beginning if self._prefix else beginning.rstrip()
        if stripped:
            extensions |= self._prefix
            messages = (*messages, Message.assistant(stripped))
        # The call that this is a part of counts its tokens and is the one in the history.
        with steering(None), dspy.context(usage_tracker=None, disable_history=True):
            config = replace(config, extensions=extensions or None)
            told = self._lm(replace(request, messages=messages, config=config), cache=False)
        text = "".join(getattr(part, "text", "") for part in told.message.parts)
        return text.removeprefix(beginning[len(stripped) :]), told


class StagedSegment:
    """One stretch of an answer that is steered stage by stage.

    Args:
        ask: what follows a beginning, up to a mark or, for None, to its end, when so many tokens are spent already.
        pause: the mark to stop at next.
        began: what stands already.
        used: prompt tokens and generated tokens so far.
    """

    def __init__(
        self,
        ask: Callable[[str, str | None, int], tuple[str, Response] | None],
        pause: Callable[[], str | None],
        began: tuple[Piece, ...] = (),
        used: tuple[int, int] = (0, 0),
    ) -> None:
        self._ask, self._pause, self._began, self.used = ask, pause, began, used
        self._written = ""
        self.finish: str | None = None

    def __iter__(self) -> Iterator[str]:
        mark: str | None = ""
        while mark is not None:
            before, mark = mark, self._pause()
            beginning = "".join(sent for sent, _ in self._began) + self._written
            answer = self._ask(beginning, mark, self.used[1])
            if answer is None:
                self.finish = "length"
                return
            text, told = answer
            used, self.finish = told.usage, told.finish_reason
            self.used = self.used[0] + (used.input_tokens or 0), self.used[1] + (used.output_tokens or 0)
            if mark is not None:
                # Not told whether it came to the mark or to its end, one takes it to have come to the mark, but once.
                if self.finish == "length" or (mark == before and not text.strip()):
                    mark = None
                else:
                    text = f"{text.removesuffix(mark)}{mark}\n"
            self._written += text
            yield text

    def stop(self) -> None:
        """Nothing to do: between two requests nothing runs."""

    def resume(self, kept: int, note: str, opening: str) -> StagedSegment:
        began: list[Piece] = []
        for sent, shown in (*self._began, (self._written, self._written)):
            if kept <= 0:
                break
            began.append((sent, shown) if len(shown) <= kept else (shown[:kept], shown[:kept]))
            kept -= len(shown)
        began += [(note, ""), (opening, opening)]
        return StagedSegment(self._ask, self._pause, tuple(began), self.used)
