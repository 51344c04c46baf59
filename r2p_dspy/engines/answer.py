"""From generated text to a response: the thought, the answer, and the strings that end it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from dspy.lm15 import FinishReason, Message, Request, Response, ServerError, TextPart, ThinkingPart, Usage

from r2p_dspy.decoding.segments import Content, ResumableSegment
from r2p_dspy.decoding.steering import Correction, Steer, generate_steered
from r2p_dspy.engines.chat import CLOSE, OPEN
from r2p_dspy.engines.lm import report_passes

Decode: TypeAlias = Callable[[Sequence[int]], str]
Kind: TypeAlias = Literal["thinking", "text"]


def respond(
    request: Request,
    text: str,
    inside: bool | None,
    finish: str | None,
    usage: Usage,
    forward_passes: int | None = None,
) -> Response:
    """Make a response of generated text: cut it at the first stop string, and separate its thought.

    `inside` says whether the text begins inside a thought; with None, thoughts are not separated.
    """
    stop = StopAt(request.config.stop)
    text = stop.push(text) + stop.finish()
    thought = ""
    if inside is not None:
        pieces = Thoughts(inside).push(text, last=True)
        thought, text = ("".join(piece for kind, piece in pieces if kind == wanted) for wanted in ("thinking", "text"))
    parts: list[ThinkingPart | TextPart] = [ThinkingPart(thought)] if thought else []
    message = Message.assistant([*parts, TextPart(text)])
    return Response(
        id=None,
        model=request.model,
        message=message,
        finish_reason=finish_reason(finish),
        usage=usage,
        provider_data=None if forward_passes is None else report_passes(forward_passes),
    )


def respond_steered(
    request: Request,
    segment: ResumableSegment[Content],
    steer: Steer,
    *,
    inside: bool | None,
    cancelled: threading.Event | None = None,
) -> Response:
    """Generate a steered answer and make a response of it. Once `cancelled` is set, it ends with a ServerError."""

    def read(text: str) -> Correction | None:
        if cancelled is not None and cancelled.is_set():
            raise ServerError("the call was cancelled")
        return steer(text)

    text, last = generate_steered(segment, read)
    return respond(request, text, inside, last.finish, last.usage, last.forward_passes)


class TextStream:
    """Decodes tokens that arrive one by one, and never shows half a character."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._from = self._to = 0  # the latest decoded tokens: a token's spaces may depend on the one before it

    def push(self, token: int) -> str:
        """The text that the token completes; may be empty."""
        self._ids.append(token)
        text = self.finish()
        if not text or text.endswith("\ufffd"):
            return ""
        self._from, self._to = self._to, len(self._ids)
        return text

    def finish(self) -> str:
        """The text that is left when no token follows."""
        known = self._decode(self._ids[self._from : self._to])
        return self._decode(self._ids[self._from :])[len(known) :]


class StopAt:
    """Passes text on up to the first stop string; text that may begin one is held back."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = strings
        self._held = ""
        self._hit = False

    def push(self, text: str) -> str:
        if self._hit:
            return ""
        text = self._held + text
        ends = [at for string in self._strings if (at := text.find(string)) >= 0]
        if ends:
            self._hit, self._held = True, ""
            return text[: min(ends)]
        keep = max((_overlap(text, string) for string in self._strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The text that was held back and is no stop string."""
        text, self._held = self._held, ""
        return text


class Thoughts:
    """Separates the thought at the beginning of a text (`<think>…</think>`) from the answer after it."""

    def __init__(self, inside: bool) -> None:
        self._state = "thinking" if inside else "before"
        self._held = ""

    def push(self, text: str, *, last: bool = False) -> list[tuple[Kind, str]]:
        """The kind and text of each piece that is certain by now; all pieces if this text is the `last`."""
        self._held += text
        pieces: list[tuple[Kind, str]] = []
        if self._state == "before":
            start = self._held.lstrip()
            if start.startswith(OPEN):
                self._state, self._held = "thinking", start.removeprefix(OPEN)
            elif last or not OPEN.startswith(start):
                self._state = "text"
        if self._state == "thinking":
            thought, closed, rest = self._held.partition(CLOSE)
            if closed:
                self._state, self._held = "between", rest
                pieces.append(("thinking", thought.rstrip("\n")))
            else:
                sure = thought if last else thought[: len(thought) - _overlap(thought, CLOSE)].rstrip("\n")
                self._held = thought[len(sure) :]
                pieces.append(("thinking", sure))
        if self._state == "between":
            self._held = self._held.lstrip("\n")
            self._state = "text" if self._held else "between"
        if self._state == "text":
            pieces.append(("text", self._held))
            self._held = ""
        return [piece for piece in pieces if piece[1]]


def finish_reason(finish: str | None) -> FinishReason:
    """The reason that a response gives for its end. A loop would have gone on to the limit, so readers take it so."""
    return "length" if finish in ("length", "loop") else "stop"


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of `text` that is a proper prefix of `string`."""
    return next((n for n in range(min(len(text), len(string) - 1), 0, -1) if text.endswith(string[:n])), 0)
