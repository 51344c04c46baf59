"""Steering: whoever reads a running answer may stop it and let it go on from a corrected beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias, TypeVar


@dataclass(frozen=True)
class Correction:
    """How a running answer is to go on.

    Args:
        kept: how many characters of it stay.
        note: what the model is to read after them, which is no part of the answer.
        opening: the answer's next words.
    """

    kept: int
    note: str
    opening: str


# Reads the answer so far; None lets it go on. One with a method `pause` also says where it wants to read next, for
# engines that cannot stream: before which string, or, with None, at the end. `copy.copy` makes one that has read as
# much.
Steer: TypeAlias = Callable[[str], Correction | None]


class Segment(Protocol):
    """One stretch of a generation; iterated, it yields the pieces of text that follow its beginning."""

    def __iter__(self) -> Iterator[str]: ...

    def stop(self) -> None:
        """End the generation, wait until it has ended, and be done; also after its end, and more than once."""

    def resume(self, kept: int, note: str, opening: str) -> Self | None:
        """The stretch after so many characters of the answer, a note and an opening; None when no room is left."""


AnySegment = TypeVar("AnySegment", bound=Segment)
_active: ContextVar[Callable[[], Steer] | None] = ContextVar("r2p_steer", default=None)


@contextmanager
def steering(make: Callable[[], Steer] | None) -> Iterator[None]:
    """Within it, an engine that can be steered asks for a reader for each answer; others know nothing of it."""
    token = _active.set(make)
    try:
        yield
    finally:
        _active.reset(token)


def reader() -> Callable[[], Steer] | None:
    """What makes a reader for each answer, if somebody wants to read along."""
    return _active.get()


def awaited() -> bool:
    """Whether somebody wants to read along with the next answer."""
    return _active.get() is not None


def active() -> Steer | None:
    """Who reads along with the next answer."""
    make = reader()
    return None if make is None else make()


def steered(leg: AnySegment, steer: Steer) -> tuple[str, AnySegment]:
    """Run a generation to its end, from correction to correction.

    Args:
        leg: its first stretch.
        steer: who reads along.

    Returns:
        The answer, without the notes, and the last stretch.
    """
    text = ""
    while True:
        correction = None
        try:
            for piece in leg:
                text += piece
                if (correction := steer(text)) is not None:
                    break
        finally:
            leg.stop()
        if correction is None:
            return text, leg
        text = text[: correction.kept]
        following = leg.resume(correction.kept, correction.note, correction.opening)
        if following is None:
            return text, leg
        text, leg = text + correction.opening, following
