"""What somebody who read along with an answer was shown and said, noted such that it can be read again later."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from r2p_dspy.decoding.steering import Correction, Steer, reader, steering

# Of one answer, in order, as JSON: ["read", kept, more, correction], where the text is what was kept of the one before
# and more; and ["pause", mark].
Reading: TypeAlias = list[list[Any]]


class _Noted:
    """A reader whose readings are noted."""

    def __init__(self, steer: Steer, reading: Reading) -> None:
        self._steer, self._reading, self._text = steer, reading, ""
        if (pause := getattr(steer, "pause", None)) is not None:
            self._asked = pause
            self.pause = self._pause

    def __call__(self, text: str) -> Correction | None:
        correction = self._steer(text)
        kept = len(self._text) if text.startswith(self._text) else 0
        self._reading.append(["read", kept, text[kept:], _plain(correction)])
        self._text = text
        return correction

    def _pause(self) -> str | None:
        self._reading.append(["pause", mark := self._asked()])
        return mark


@contextmanager
def noting(readings: list[Reading], ready: Sequence[Steer] = ()) -> Iterator[None]:
    """Within it, what readers are shown and say is noted, for each answer that somebody reads along with.

    Args:
        readings: takes a reading an answer.
        ready: readers that were made before, and have read nothing; they come first.
    """
    make, waiting = reader(), [*ready]
    if make is None:
        yield
        return

    def noted() -> Steer:
        readings.append([])
        return _Noted(waiting.pop(0) if waiting else make(), readings[-1])

    with steering(noted):
        yield


def read_again(readings: Sequence[Reading]) -> list[Steer] | None:
    """Let those who want to read along now read noted answers instead of new ones.

    Args:
        readings: of the answers of one call.

    Returns:
        None when each reader said what was said then, so that the answers stand; else the readers, who have read
        nothing: the checks behind them are not those of then, and the model has to be asked.
    """
    make = reader()
    readers = [make() for _ in readings] if make is not None else []
    if len(readers) != len(readings):
        return readers
    if not all(_agrees(copy.copy(one), reading) for one, reading in zip(readers, readings, strict=True)):
        return readers
    for one, reading in zip(readers, readings, strict=True):
        _agrees(one, reading)
    return None


def _agrees(steer: Any, reading: Reading) -> bool:
    text = ""
    for kind, *noted in reading:
        if kind == "pause":
            if not hasattr(steer, "pause") or steer.pause() != noted[0]:
                return False
        else:
            kept, more, said = noted
            text = text[:kept] + more
            if _plain(steer(text)) != said:
                return False
    return True


def _plain(correction: Correction | None) -> list[Any] | None:
    return None if correction is None else [correction.kept, correction.note, correction.opening]
