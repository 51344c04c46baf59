"""Generated tokens to text, and text to the thought and the answer in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from dspy.lm15 import (
    Message,
    Request,
    Response,
    StreamDeltaEvent,
    StreamEndEvent,
    StreamStartEvent,
    TextDelta,
    TextPart,
    ThinkingDelta,
    ThinkingPart,
    Usage,
)

from r2p_dspy.engines.chat import CLOSE, OPEN

if TYPE_CHECKING:  # it needs torch, and a client of a server has none
    from r2p_dspy.engines.local.rows import Row

Decode: TypeAlias = Callable[[Sequence[int]], str]
Event: TypeAlias = StreamStartEvent | StreamDeltaEvent | StreamEndEvent


class Answer:
    """A row's tokens as the events of a stream, or as one response.

    Args:
        request: that the row answers.
        decode: token ids to text.
        inside: whether the prompt ends inside a thought; None if thoughts are not told apart.
    """

    def __init__(self, request: Request, decode: Decode, inside: bool | None) -> None:
        self._request = request
        self._decode = decode
        self._inside = inside
        self._text = TextStream(decode)
        self._stop = StopAt(request.config.stop)
        self._thoughts = None if inside is None else Thoughts(inside)

    def start(self) -> StreamStartEvent:
        return StreamStartEvent(model=self._request.model)

    def push(self, token: int) -> list[Event]:
        return self._deltas(self._pieces(self._stop.push(self._text.push(token))))

    def finish(self, row: Row) -> list[Event]:
        pieces = self._pieces(self._stop.push(self._text.finish()) + self._stop.finish(), last=True)
        return [
            *self._deltas(pieces or [("text", "")]),
            StreamEndEvent(finish_reason=_reason(row.finish), usage=usage(row)),
        ]

    def response(self, row: Row, text: str | None = None, used: tuple[int, int] | None = None) -> Response:
        """The row's answer; for a steered one, whose last row this is, its text and the tokens of all its rows."""
        if text is None:
            text = self._decode(row.tokens)
        counted = usage(row) if used is None else Usage(input_tokens=used[0], output_tokens=used[1])
        return respond(self._request, text, self._inside, row.finish, counted)

    def _pieces(self, text: str, *, last: bool = False) -> list[tuple[str, str]]:
        if self._thoughts is not None:
            return self._thoughts.push(text, last=last)
        return [("text", text)] if text else []

    def _deltas(self, pieces: list[tuple[str, str]]) -> list[Event]:
        at = int(self._thoughts is not None)  # the answer's place, after the thought
        return [
            StreamDeltaEvent(ThinkingDelta(text) if kind == "thinking" else TextDelta(text, part_index=at))
            for kind, text in pieces
        ]


def respond(request: Request, text: str, inside: bool | None, finish: str | None, used: Usage) -> Response:
    """A text as the response to a request, up to its stop strings and with its thought apart.

    Args:
        request: what was asked.
        text: all that was generated.
        inside: whether the text begins inside a thought; None if thoughts are not told apart.
        finish: "length" when the tokens ran out.
        used: tokens of the prompt and of the answer.
    """
    stop = StopAt(request.config.stop)
    text = stop.push(text) + stop.finish()
    pieces = [("text", text)] if inside is None else Thoughts(inside).push(text, last=True)
    thought, text = ("".join(text for kind, text in pieces if kind == wanted) for wanted in ("thinking", "text"))
    parts = [ThinkingPart(thought), TextPart(text)] if thought else [TextPart(text)]
    message = Message.assistant(parts)
    return Response(id=None, model=request.model, message=message, finish_reason=_reason(finish), usage=used)


class TextStream:
    """Text of tokens that come one by one: all that is complete, and never half a character."""

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._from = self._to = 0  # the tokens between give the text before the next one, which may shape its spaces

    def push(self, token: int) -> str:
        """Text that the token completes, maybe none."""
        self._ids.append(token)
        text = self._rest()
        if not text or text.endswith("\ufffd"):
            return ""
        self._from, self._to = self._to, len(self._ids)
        return text

    def finish(self) -> str:
        """What is left when no token follows."""
        return self._rest()

    def _rest(self) -> str:
        known = self._decode(self._ids[self._from : self._to])
        return self._decode(self._ids[self._from :])[len(known) :]


class StopAt:
    """Passes text on up to the first of some strings; what may be the beginning of one is held back."""

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
        """What was held back and turned out to be none of the strings."""
        text, self._held = self._held, ""
        return text


class Thoughts:
    """Parts a model's text into the thought (`<think>…</think>` at its beginning) and the answer after it.

    Args:
        inside: the text begins inside the thought, because the prompt ended there.
    """

    def __init__(self, inside: bool) -> None:
        self._state = "thinking" if inside else "before"
        self._held = ""

    def push(self, text: str, *, last: bool = False) -> list[tuple[str, str]]:
        """Pieces of ("thinking" | "text", str) that are certain by now; everything if this is the `last`."""
        self._held += text
        pieces = []
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


def usage(row: Row) -> Usage:
    """Tokens of a row so far."""
    return Usage(input_tokens=len(row.prompt), output_tokens=row.generated)


def stop_check(decode: Decode, strings: Sequence[str]) -> Callable[[list[int]], bool]:
    """Whether the latest of some tokens completes one of the strings."""
    tail = max(len(string.encode()) for string in strings) + 4  # a token is a byte at least, so this many show it

    def stops(tokens: list[int]) -> bool:
        text = decode(tokens[-tail:])
        return any(string in text for string in strings)

    return stops


def _reason(finish: str | None) -> str:
    return "length" if finish == "length" else "stop"


def _overlap(text: str, string: str) -> int:
    """Length of the longest end of `text` that is a beginning of `string`, but not all of it."""
    return next((n for n in range(min(len(text), len(string) - 1), 0, -1) if text.endswith(string[:n])), 0)
