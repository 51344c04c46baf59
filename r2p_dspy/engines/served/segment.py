"""Segments of an answer on a server: each is a request, which continues where the one before was cut."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from dspy.lm15 import ContextLengthError, InvalidRequestError, ServerError, Usage

from r2p_dspy.decoding.constraining import Constraint
from r2p_dspy.decoding.segments import Piece, ResumableSegment
from r2p_dspy.engines.chat import OPEN
from r2p_dspy.engines.served.holding import Held, Holding
from r2p_dspy.engines.served.servers.server import Chunk, Prompt, Server

_BUSY = (502, 503, 504)  # statuses of a server that is away or overloaded, which says nothing of a form


@dataclass(frozen=True)
class ServedCall:
    """What all segments of an answer share."""

    server: Server
    model: str
    prompt: Prompt
    options: dict[str, Any]  # settings of the server; JSON
    stop: tuple[str, ...]  # strings at which the answer ends
    constraint: Constraint | None
    holding: Holding

    def resume(self) -> ServedCall:
        """The same call with other random numbers."""
        seed = self.options.get("seed")
        return self if seed is None else replace(self, options={**self.options, "seed": seed + 1})

    def hold(self, text: str) -> Held | None:
        """What the rest of the answer is held to after a text."""
        begun = f"{OPEN}\n" if self.prompt.inside else ""  # a thought that the chat template has opened
        return None if self.constraint is None else self.holding.hold(self.constraint, begun + text)

    def stream(self, prompt: list[int], limit: int, held: Held | None) -> Generator[Chunk]:
        """What follows a prompt, held to a form if the server takes it."""
        begun = False
        try:
            with closing(self._stream(prompt, limit, held.options if held else {})) as chunks:
                for chunk in chunks:
                    if held and not begun:
                        self.holding.taken(held)
                    begun = True
                    yield chunk
        except (InvalidRequestError, ServerError) as error:
            if held is None or begun or isinstance(error, ContextLengthError) or error.status in _BUSY:
                raise
            refusal = error
        else:
            return
        with closing(self._stream(prompt, limit, {})) as chunks:
            for chunk in chunks:
                if not begun:
                    begun = True
                    self.holding.refused(held, refusal)
                yield chunk

    def _stream(self, prompt: list[int], limit: int, form: dict[str, Any]) -> Generator[Chunk]:
        return self.server.stream(self.model, prompt, limit, {**self.options, **form})


class ServedSegment(ResumableSegment[list[int]]):
    """One request of an answer. Its prompt ends with what stands of the answer already, the text."""

    def __init__(self, call: ServedCall, prompt: list[int], limit: int, text: str = "") -> None:
        self._call, self._prompt, self._limit = call, prompt, limit
        self._texts: list[tuple[list[int] | None, str]] = []
        self._generated = 0
        self._held = call.hold(text)
        self._stream = call.stream(prompt, limit, self._held)

    def __iter__(self) -> Iterator[str]:
        ids: list[int] | None = []
        text = ""
        for chunk in self._stream:
            self._generated, self.finish = chunk.generated, chunk.finish
            ids = None if ids is None or chunk.ids is None else ids + chunk.ids
            if not chunk.text:
                continue  # half a character; its tokens belong to the text that follows
            # The last tokens may hold the end of the turn, and nothing could follow that.
            self._texts.append((None if chunk.finish else ids, chunk.text))
            text, ids = text + chunk.text, []
            yield chunk.text
            # The server does not look for them: it would hold text back, and send its tokens apart from it.
            if any(stop in text for stop in self._call.stop):
                self.finish = "stop"
                return

    def stop(self) -> None:
        self._stream.close()
        if self._held is not None:
            text = "".join(shown for _, shown in self._texts)
            self._call.holding.check(self._held, text, ended=self.finish is not None)

    def _own_usage(self) -> Usage:
        return Usage(input_tokens=len(self._prompt), output_tokens=self._generated)

    def _written(self) -> Iterable[tuple[list[int] | None, str]]:
        return self._texts

    def _encode(self, text: str) -> list[int]:
        return self._call.server.encode(self._call.model, text)

    def _cut(self, content: list[int], shown: str, kept: int) -> Piece[list[int]]:
        """Nothing: only the server can decode, so what stays of a text is encoded anew."""
        return Piece([], "")

    def _following(self, began: Sequence[Piece[list[int]]]) -> ServedSegment | None:
        chat = self._call.prompt
        prompt = chat.ids + [token for piece in began for token in piece.content]
        # Tokens that were thrown away count, so that no answer takes more than its limit.
        limit = min(self._limit - self._generated, chat.context - len(prompt))
        if limit < 1:
            return None
        return ServedSegment(self._call.resume(), prompt, limit, "".join(piece.shown for piece in began))
