"""Reading along while a model reasons: where it leaves the template or a check fails, it is corrected at once.

This is the paper's reasoning process intervention: stop, keep what was good, put a correction into the reasoning in the
model's own words, go on.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from dspy.adapters.utils import parse_value
from pydantic import BaseModel

from r2p_dspy.checks import Check
from r2p_dspy.decoding.carriers import ANSWER, Running
from r2p_dspy.decoding.steering import Correction
from r2p_dspy.errors import CheckError
from r2p_dspy.outcome import Inputs, Outcome
from r2p_dspy.prompting.tags import Section
from r2p_dspy.template import Template

_CHARACTERS = 4  # of a token, about
_LOOP = re.compile(r"(.{6,120}?)\1{4,}\Z", re.DOTALL)
_SEEN = 700  # characters in which a loop is looked for
_GLANCE = 64  # characters after which it looks in any case


CorrectionMode = Literal["stream", "stages", "retry"]


class Intervention(BaseModel):
    """A correction of a running answer: the stage that was due, the check that failed, what the model was told."""

    stage: str
    check: str
    message: str


_enforced: ContextVar[tuple[Sequence[Check], int]] = ContextVar("r2p_enforced", default=((), 0))


@contextmanager
def enforcing(checks: Sequence[Check], most: int) -> Iterator[None]:
    """Within it, a `Reason` whose engine can be steered is monitored with these checks, with `most` interventions."""
    token = _enforced.set((checks, most))
    try:
        yield
    finally:
        _enforced.reset(token)


def enforced() -> tuple[Sequence[Check], int]:
    """The checks to monitor with now, and the interventions at most."""
    return _enforced.get()


class Monitor:
    """Reads one running answer; called with the text so far, it returns a `Correction` or None.

    Args:
        running: the carrier's marks.
        template: the stages that are due.
        checks: those that say after which stage they can run do so as soon as it closes.
        inputs: what the checks see.
        most: interventions at most; after them it only reads.
        budget: tokens (estimated from characters) that a stage, or text before a stage, may take.
    """

    def __init__(
        self,
        running: Running,
        template: Template,
        checks: Sequence[Check],
        inputs: Inputs,
        most: int,
        budget: int = 400,
    ) -> None:
        self.interventions: list[Intervention] = []
        self._running, self._inputs, self._most, self._room = running, inputs, most, budget * _CHARACTERS
        self._due = {stage.name: stage.type for stage in template.leaves()}
        self._checks = [check for check in checks if check.after is not None]
        self._held: dict[str, Any] = {}  # the stages that are closed and good
        self._looked = 0  # how much of the text was there at the last look
        self._staged = False

    def __call__(self, text: str) -> Correction | None:
        # A stage begins and ends with a bracket; between two of them a look now and then is enough.
        new = text[self._looked :]
        if len(self.interventions) >= self._most:
            return None
        if not (self._staged or "]" in new or ">" in new or len(new) > _GLANCE):
            return None
        self._looked = len(text)
        found = list(self._running.sections(text))
        for section in found[len(self._held) :]:
            if (correction := self._look(section, text)) is not None:
                return correction
            if section.name == ANSWER or not section.closed:
                return None
        end = found[-1].end if found else 0
        if self._next() != ANSWER and len(text) - end > self._room:
            return self._correct(end, text, self._next(), "stages", "That is enough.")
        return None

    def __copy__(self) -> "Monitor":
        other: Monitor = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, "interventions": [*self.interventions], "_held": {**self._held}}
        return other

    def pause(self) -> str | None:
        """Where an engine that cannot stream is to stop next, so that it can be corrected there.

        Returns:
            The mark at the end of the stage that is due; None when the rest can be written in one go.
        """
        self._staged, due = True, self._next()
        return None if due == ANSWER or len(self.interventions) >= self._most else self._running.ending(due)

    @property
    def grade(self) -> CorrectionMode:
        """How the answer was read: as it streamed, or stage by stage."""
        return "stages" if self._staged else "stream"

    def _next(self) -> str:
        return next((name for name in self._due if name not in self._held), ANSWER)

    def _look(self, section: Section, text: str) -> Correction | None:
        due, name = self._next(), section.name
        if name != due:
            said = "The stages are done; the answer follows." if due == ANSWER else f"The stage {due} comes first."
            return self._correct(section.start, text, due, "stages", said)
        if name == ANSWER:
            return None
        if not section.closed:
            if len(section.text) > self._room or _LOOP.search(section.text[-_SEEN:]):
                return self._correct(section.start, text, name, "stages", f"The stage {name} must be short.")
            return None
        try:
            value = parse_value(section.text, self._due[name])
        except Exception:  # whatever pydantic, or the repair of broken JSON, makes of it
            value = None
        if value is None or value == "":
            said = f"Fill the stage {name}." if not section.text else f"The stage {name} is not of its type."
            return self._correct(section.start, text, name, "parsed" if section.text else "stages", said)
        outcome = Outcome(stages={**self._held, name: value})
        for check in self._checks:
            if check.after != name:
                continue
            try:
                verdict = check(self._inputs, outcome)
            except CheckError:  # it may need what is not written yet; if it is at fault, it says so at the end
                continue
            if not verdict.ok:
                return self._correct(section.start, text, name, check.name, verdict.message)
        self._held[name] = value
        return None

    def _correct(self, start: int, text: str, stage: str, check: str, message: str) -> Correction:
        self.interventions.append(Intervention(stage=stage, check=check, message=message))
        self._looked = 0
        kept = max(len(text[:start].rstrip()), self._running.begins(text))
        opening = self._running.opening(stage, text[:kept])
        return Correction(kept, f"\n(Wait. {message})", f"\n{opening}")
