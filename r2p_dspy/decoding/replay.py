"""Recording what a steer read and answered, and replaying it to the steers of a later run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from r2p_dspy.decoding.steering import Correction, NewSteer, PausingSteer, Steer, steer_factory, steering

# What one steer read, in order, as JSON (hence `Any`): ["read", kept, added, correction], where the text is the first
# `kept` characters of the text before and `added`; and ["pause", mark].
Reading: TypeAlias = list[list[Any]]


class RecordingSteer:
    """Writes down what another steer reads and answers."""

    def __init__(self, steer: Steer, reading: Reading) -> None:
        self._steer, self._reading, self._text = steer, reading, ""

    def __call__(self, text: str, /) -> Correction | None:
        correction = self._steer(text)
        kept = len(self._text) if text.startswith(self._text) else 0
        self._reading.append(["read", kept, text[kept:], _as_json(correction)])
        self._text = text
        return correction


class RecordingPausingSteer(RecordingSteer):
    """The same for a steer that pauses."""

    def __init__(self, steer: PausingSteer, reading: Reading) -> None:
        super().__init__(steer, reading)
        self._pausing = steer

    def pause(self) -> str | None:
        mark = self._pausing.pause()
        self._reading.append(["pause", mark])
        return mark


@contextmanager
def record_readings(readings: list[Reading], ready: Sequence[Steer] = ()) -> Iterator[None]:
    """Record one reading for each steered answer within. Steers that are `ready` read the first answers."""
    new_steer, waiting = steer_factory(), [*ready]
    if new_steer is None:
        yield
        return

    def recorded() -> Steer:
        steer = waiting.pop(0) if waiting else new_steer()
        readings.append([])
        if isinstance(steer, PausingSteer):
            return RecordingPausingSteer(steer, readings[-1])
        return RecordingSteer(steer, readings[-1])

    with steering(recorded):
        yield


def replay_readings(readings: Sequence[Reading]) -> list[Steer] | None:
    """Let new steers read the recorded answers of one call.

    Returns None when each steer answered as recorded, so that the recorded answers hold. Otherwise it returns the
    steers, which have read nothing: the checks behind them have changed, and the model must be called again.
    """
    new_steer: NewSteer | None = steer_factory()
    steers = [new_steer() for _ in readings] if new_steer is not None else []
    if len(steers) != len(readings):
        return steers
    # Copies read first: a steer that has read something could not read another answer.
    if not all(_agrees(copy.copy(steer), reading) for steer, reading in zip(steers, readings, strict=True)):
        return steers
    for steer, reading in zip(steers, readings, strict=True):
        _agrees(steer, reading)
    return None


def _agrees(steer: Steer, reading: Reading) -> bool:
    text = ""
    for kind, *recorded in reading:
        if kind == "pause":
            if not isinstance(steer, PausingSteer) or steer.pause() != recorded[0]:
                return False
        else:
            kept, added, correction = recorded
            text = text[:kept] + added
            if _as_json(steer(text)) != correction:
                return False
    return True


def _as_json(correction: Correction | None) -> list[Any] | None:
    if correction is None:
        return None
    return [correction.kept, correction.note, correction.opening, *([True] if correction.ends else [])]
