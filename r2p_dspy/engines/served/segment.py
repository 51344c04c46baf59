"""Segments of a steered answer on a server: each is a request, which continues where the one before was cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dspy.lm15 import Usage

from r2p_dspy.decoding.segments import Piece, ResumableSegment
from r2p_dspy.engines.served.server import Prompt, Server


@dataclass(frozen=True)
class SteeredCall:
    """What all segments of an answer share."""

    server: Server
    model: str
    prompt: Prompt
    options: dict[str, Any]  # settings of the server; JSON
    stop: tuple[str, ...]  # strings at which the answer ends

    def resume(self) -> SteeredCall:
        """The same call with other random numbers."""
        seed = self.options.get("seed")
        return self if seed is None else replace(self, options={**self.options, "seed": seed + 1})


class ServedSegment(ResumableSegment[list[int]]):
    """One request of a steered answer. Its prompt ends with what stands of the answer already."""

    def __init__(self, call: SteeredCall, prompt: list[int], limit: int) -> None:
        self._call, self._prompt, self._limit = call, prompt, limit
        self._texts: list[tuple[list[int] | None, str]] = []
        self._generated = 0
        self._stream = call.server.stream(call.model, prompt, limit, call.options)

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
        return ServedSegment(self._call.resume(), prompt, limit)
