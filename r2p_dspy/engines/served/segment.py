"""The stretches of a steered answer on a server: each a request that goes on where the one before was cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from r2p_dspy.engines.served.server import Prompt, Server

Piece = tuple[list[int], str]  # token ids, and what they are in the answer: a note's are nothing


@dataclass(frozen=True)
class Asked:
    """What all stretches of an answer share."""

    server: Server
    model: str
    prompt: Prompt
    options: dict[str, Any]
    stop: tuple[str, ...]

    def resume(self) -> Asked:
        """The same with other random numbers."""
        seed = self.options.get("seed")
        return self if seed is None else replace(self, options={**self.options, "seed": seed + 1})


class ServedSegment:
    """One stretch of a steered answer on a server.

    Args:
        asked: what all stretches share.
        ids: the prompt, which ends with what stands of the answer already.
        limit: tokens to generate at most.
        began: what stands already.
        earlier: prompt tokens and generated tokens of the legs before.
    """

    def __init__(
        self,
        asked: Asked,
        ids: list[int],
        limit: int,
        began: tuple[Piece, ...] = (),
        earlier: tuple[int, int] = (0, 0),
    ) -> None:
        self._asked, self._ids, self._limit = asked, ids, limit
        self._began, self._earlier = began, earlier
        self._written: list[tuple[list[int] | None, str]] = []  # None where a text's tokens are not certain
        self._generated = 0
        self.finish: str | None = None
        self._stream = asked.server.stream(asked.model, ids, limit, asked.options)

    @property
    def used(self) -> tuple[int, int]:
        """Prompt tokens and generated tokens of all legs so far, with those that were thrown away."""
        return self._earlier[0] + len(self._ids), self._earlier[1] + self._generated

    def __iter__(self) -> Iterator[str]:
        ids: list[int] | None = []
        text = ""
        for chunk in self._stream:
            self._generated, self.finish = chunk.generated, chunk.finish
            ids = None if ids is None or chunk.ids is None else ids + chunk.ids
            if not chunk.text:
                continue  # half a character; its tokens belong to the text that follows
            # The last tokens may hold the end of the turn, after which nothing could follow.
            self._written.append((None if chunk.finish else ids, chunk.text))
            text, ids = text + chunk.text, []
            yield chunk.text
            # Looked for here: a server that does holds text back, and then its tokens are not those of the text.
            if any(stop in text for stop in self._asked.stop):
                self.finish = "stop"
                return

    def stop(self) -> None:
        self._stream.close()

    def resume(self, kept: int, note: str, opening: str) -> ServedSegment | None:
        began: list[Piece] = []
        loose = ""  # what stays of a text that was cut, or whose tokens are not certain
        for ids, text in (*self._began, *self._written):
            if kept <= 0:
                break
            if ids is None or loose or len(text) > kept:
                loose += text[:kept]
            else:
                began.append((ids, text))
            kept -= len(text)
        server, model, asked = self._asked.server, self._asked.model, self._asked.prompt
        own = ((loose + note, loose), (opening, opening))
        began += [(server.encode(model, text), shown) for text, shown in own if text]
        ids = asked.ids + [token for ids, _ in began for token in ids]
        # What was thrown away counts, so that no answer takes more than it was given.
        limit = min(self._limit - self._generated, asked.context - len(ids))
        if limit < 1:
            return None
        return ServedSegment(self._asked.resume(), ids, limit, tuple(began), earlier=self.used)
