"""The seam between an engine and a reader: the reader stops a running answer and gives it a corrected beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias, TypeVar, runtime_checkable


@dataclass(frozen=True)
class Correction:
    """How a running answer goes on."""

    kept: int  # characters of the answer that stay
    note: str  # text that the model reads after them; it is no part of the answer
    opening: str  # the next words of the answer
    ends: bool = False  # whether the answer is over after what is kept


class Steer(Protocol):
    """Reads one running answer.

    Engines call it with the whole text so far, each time the text has grown; it returns a correction, or None to let
    the answer go on. A copy by `copy.copy` reads on by itself from the same state.
    """

    def __call__(self, text: str, /) -> Correction | None: ...


@runtime_checkable
class PausingSteer(Steer, Protocol):
    """A steer for engines that cannot stream as well: it says where it wants to read next."""

    def pause(self) -> str | None:
        """The string at which to stop next; None writes the rest in one go."""


NewSteer: TypeAlias = Callable[[], Steer]  # called once for each answer


class Segment(Protocol):
    """One stretch of a generation. Iterating yields the pieces of text that follow its beginning."""

    def __iter__(self) -> Iterator[str]: ...

    def stop(self) -> None:
        """End the generation and wait until it has ended. May be called after the end, and more than once."""

    def resume(self, kept: int, note: str, opening: str) -> Self | None:
        """The stretch after `kept` characters of the answer, a note and an opening; None when no room is left."""


AnySegment = TypeVar("AnySegment", bound=Segment)
_active: ContextVar[NewSteer | None] = ContextVar("r2p_steer", default=None)


@contextmanager
def steering(new_steer: NewSteer | None) -> Iterator[None]:
    """Let engines that support it steer the answers within; None turns steering off. Other engines ignore this."""
    token = _active.set(new_steer)
    try:
        yield
    finally:
        _active.reset(token)


def steer_factory() -> NewSteer | None:
    """What makes a steer for each answer; None where answers are not steered."""
    return _active.get()


def next_steer() -> Steer | None:
    """A new steer for the next answer; None where answers are not steered."""
    new_steer = _active.get()
    return None if new_steer is None else new_steer()


def generate_steered(segment: AnySegment, steer: Steer) -> tuple[str, AnySegment]:
    """Run a generation to its end, from its first segment; return the answer, without the notes, and the last one."""
    text = ""
    while True:
        correction = None
        try:
            for piece in segment:
                text += piece
                if (correction := steer(text)) is not None:
                    break
        finally:
            segment.stop()
        if correction is None:
            return text, segment
        text = text[: correction.kept]
        if correction.ends:
            return text, segment
        following = segment.resume(correction.kept, correction.note, correction.opening)
        if following is None:
            return text, segment
        text, segment = text + correction.opening, following
