"""The tokens of a row as the events of a stream, or as one response."""

from __future__ import annotations

import builtins
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from dspy.lm15 import (
    InvalidRequestError,
    Request,
    Response,
    ServerError,
    StreamDeltaEvent,
    StreamEndEvent,
    StreamStartEvent,
    TextDelta,
    ThinkingDelta,
    TimeoutError,
    Usage,
)

from r2p_dspy.engines.answer import Decode, Kind, StopAt, TextStream, Thoughts, finish_reason, respond
from r2p_dspy.engines.lm import report_passes
from r2p_dspy.engines.local.rows import Row, Stopped

Event: TypeAlias = StreamStartEvent | StreamDeltaEvent | StreamEndEvent


class Answer:
    """The answer of one row; `inside` is as for `respond`, and `begun` is what stands of the answer in the prompt."""

    def __init__(self, request: Request, decode: Decode, inside: bool | None, begun: str = "") -> None:
        self.request, self.inside, self.begun = request, inside, begun
        self._decode = decode
        self._text = TextStream(decode)
        self._stop = StopAt(request.config.stop)
        self._thoughts = None if inside is None else Thoughts(inside)

    def start(self) -> StreamStartEvent:
        return StreamStartEvent(model=self.request.model)

    def push(self, token: int) -> list[Event]:
        return self._deltas(self._pieces(self._stop.push(self._text.push(token))))

    def finish(self, row: Row) -> list[Event]:
        pieces = self._pieces(self._stop.push(self._text.finish()) + self._stop.finish(), last=True)
        return [
            *self._deltas(pieces or [("text", "")]),
            StreamEndEvent(finish_reason(row.finish), row.usage, report_passes(row.forward_passes)),
        ]

    def response(self, row: Row) -> Response:
        return respond(self.request, self._decode(row.tokens), self.inside, row.finish, row.usage, row.forward_passes)

    def _pieces(self, text: str, *, last: bool = False) -> list[tuple[Kind, str]]:
        if self._thoughts is not None:
            return self._thoughts.push(text, last=last)
        return [("text", text)] if text else []

    def _deltas(self, pieces: list[tuple[Kind, str]]) -> list[Event]:
        index = int(self._thoughts is not None)  # the answer is the part after the thought
        return [
            StreamDeltaEvent(ThinkingDelta(text) if kind == "thinking" else TextDelta(text, part_index=index))
            for kind, text in pieces
        ]


class LocalStream(Iterator[Event]):
    """The events of one answer: a start, text as soon as it is complete, an end with the usage."""

    def __init__(self, engine: object, row: Row, answer: Answer) -> None:
        self._engine = engine  # lives for as long as the stream is read
        self._row = row
        self._events = _events(row, answer)  # does not hold this object, so the row is cancelled with its reader

    @property
    def usage(self) -> Usage:
        """Tokens so far; final once the stream has ended or is closed."""
        return self._row.usage

    def __next__(self) -> Event:
        return next(self._events)

    def __del__(self) -> None:
        self._row.cancel()

    def close(self) -> None:
        """Stop the generation, and wait until it has stopped."""
        self._events.close()
        self._row.cancel()
        try:
            self._row.wait()
        except Exception:  # it has stopped, for whatever reason
            pass


@contextmanager
def lm15_errors() -> Iterator[None]:
    """Turn errors of the batch into DSPy's errors."""
    try:
        yield
    except Stopped as error:
        raise ServerError(str(error)) from error
    except builtins.TimeoutError as error:
        raise TimeoutError(str(error) or "the in-process model gave no answer in time") from error
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error


def _events(row: Row, answer: Answer) -> Generator[Event]:
    with lm15_errors(), row:
        yield answer.start()
        for token in row:
            yield from answer.push(token)
        yield from answer.finish(row)
