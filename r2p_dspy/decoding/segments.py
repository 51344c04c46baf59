"""Cutting a steered answer and continuing it: what the segments of all engines have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Self, TypeVar

from dspy.lm15 import Usage

from r2p_dspy.decoding.steering import Segment

Content = TypeVar("Content")  # of a beginning: token ids, or text


@dataclass(frozen=True)
class Piece(Generic[Content]):
    """A part of what stands already when a segment begins."""

    content: Content  # what the model reads
    shown: str  # the same in the answer; empty for a note
    own: bool = True  # whether the model wrote it, and not a correction


class ResumableSegment(Segment, Generic[Content]):
    """A segment that resumes from pieces; subclasses generate, encode and cut."""

    finish: str | None = None  # why it ended: "length" when the tokens ran out
    _began: Sequence[Piece[Content]] = ()  # what stands already
    _earlier = Usage(input_tokens=0, output_tokens=0)  # of the segments before
    _earlier_passes: int | None = 0

    @property
    def usage(self) -> Usage:
        """Tokens of this segment and of those before, with those that a correction threw away."""
        own = self._own_usage()
        return Usage(
            input_tokens=(self._earlier.input_tokens or 0) + (own.input_tokens or 0),
            output_tokens=(self._earlier.output_tokens or 0) + (own.output_tokens or 0),
        )

    @property
    def forward_passes(self) -> int | None:
        """Forward passes of the model for this segment and those before; None where the engine does not count them."""
        own = self._own_passes()
        return None if own is None or self._earlier_passes is None else self._earlier_passes + own

    def resume(self, kept: int, note: str, opening: str) -> Self | None:
        began: list[Piece[Content]] = []
        loose = ""  # kept text whose tokens are not kept, because it was cut, or because they are not known
        earlier = ((piece.content, piece.shown, piece.own) for piece in self._began)
        for content, shown, own in (*earlier, *((*written, True) for written in self._written())):
            if kept <= 0:
                break
            if content is None or loose:
                loose += shown[:kept]
            else:
                piece = Piece(content, shown) if len(shown) <= kept else self._cut(content, shown, kept)
                began.append(replace(piece, own=own))
                loose = shown[len(piece.shown) : kept]
            kept -= len(shown)
        # Encoded with the note after it, so that the tokens are those of the text as the model has learnt to read it.
        for text, shown in ((loose + note, loose), (opening, opening)):
            if text:
                began.append(Piece(self._encode(text), shown, own=False))
        if (following := self._following(began)) is not None:
            following._began, following._earlier = began, self.usage
            following._earlier_passes = self.forward_passes
        return following

    @abstractmethod
    def _own_usage(self) -> Usage:
        """Tokens of this segment alone."""

    def _own_passes(self) -> int | None:
        """Forward passes of this segment alone; None where the engine does not count them."""
        return None

    @abstractmethod
    def _written(self) -> Iterable[tuple[Content | None, str]]:
        """What this segment has written, as contents and shown texts; None where the tokens are not known."""

    @abstractmethod
    def _encode(self, text: str) -> Content:
        """A text as the model reads it."""

    @abstractmethod
    def _cut(self, content: Content, shown: str, kept: int) -> Piece[Content]:
        """The part of a piece that fits into `kept` characters and can stay as it is."""

    @abstractmethod
    def _following(self, began: Sequence[Piece[Content]]) -> Self | None:
        """The segment that goes on after a beginning; None when no room is left."""
