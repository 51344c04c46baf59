"""Checking the stages of a running answer, and correcting it as soon as one fails.

This is the paper's reasoning process intervention (RPI, arXiv 2505.17571): stop the generation, keep what was good, put
a correction into the reasoning in the model's own words, and resume.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel

from r2p_dspy.checks import Check
from r2p_dspy.decoding.carriers import ANSWER, StageMarks
from r2p_dspy.decoding.constraining import Constrain
from r2p_dspy.decoding.loops import is_endless, repeats, stops_loops
from r2p_dspy.decoding.stages import stage_watcher
from r2p_dspy.decoding.steering import Correction
from r2p_dspy.errors import CheckError
from r2p_dspy.outcome import Inputs, RunningOutcome, unshadowed
from r2p_dspy.prompting.tags import Section
from r2p_dspy.template import Template

_LOOP, _LOOP_CHARACTERS = 5, 240  # times that a passage stands in a row in a loop, and its length: no ruler is so long
_READ_EVERY = 64  # characters after which the text is read even without a mark

CorrectionMode = Literal["constrained", "stream", "stages", "retry"]


class Intervention(BaseModel):
    """A correction of a running answer.

    Args:
        stage: the stage that was due.
        check: the check that failed.
        message: what the model was told.
        at: where it came: the number of characters of the answer that were kept before it, the tags of a thought
            included.
        replaced: what the model had written after them, which was thrown away.
    """

    stage: str
    check: str
    message: str
    at: int = 0
    replaced: str = ""


class Enforced(NamedTuple):
    """What is enforced while an answer is written."""

    checks: Sequence[Check] = ()
    max_interventions: int = 0  # in one answer
    constrain: Constrain = "off"


_NOTHING = Enforced()
_enforced: ContextVar[Enforced] = ContextVar("r2p_enforced", default=_NOTHING)


@contextmanager
def enforcing(enforced: Enforced) -> Iterator[None]:
    """Let every `Reason` within monitor and constrain its answers, where the engine can be steered and constrained."""
    token = _enforced.set(enforced)
    try:
        yield
    finally:
        _enforced.reset(token)


def enforced() -> Enforced:
    """What is enforced here."""
    return _enforced.get()


class Monitor:
    """A steer that corrects an answer which leaves the template or fails a check.

    A check that names a stage in `after` runs as soon as that stage ends, a group with its last stage; the others do
    not run here, nor do those that read an output (`outputs` names them). After `max_interventions` the monitor only
    ends answers that repeat themselves for ever. Text before a stage, and a stage of text, may have
    `stage_characters` characters, other stages twice as many: more than a grammar lets them have, in any script.
    """

    def __init__(
        self,
        marks: StageMarks,
        template: Template,
        checks: Sequence[Check],
        inputs: Inputs,
        max_interventions: int,
        stage_characters: int = 1600,
        outputs: Sequence[str] = (),
    ) -> None:
        self.interventions: list[Intervention] = []
        self._marks, self._checks, self._inputs = marks, checks, inputs
        self._max_interventions, self._stage_characters = max_interventions, stage_characters
        self._types = {stage.name: stage.type for stage in template.leaves()}
        self._ending = {name: template.ending_with(name) for name in self._types}
        self._outputs = tuple(outputs)
        self._accepted: dict[str, Any] = {}  # stages that ended well; their types are the template's
        self._read = 0  # length of the text at the last reading
        self._pauses = False
        self._written = stage_watcher(unshadowed(inputs).items)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        vars(twin).update(vars(self), interventions=[*self.interventions], _accepted={**self._accepted})
        return twin

    def __call__(self, text: str, /) -> Correction | None:
        """A correction of the answer so far; None where it is good."""
        # A stage begins and ends with a bracket; between two brackets it is enough to read now and then.
        new = text[self._read :]
        if not (self._pauses or "]" in new or ">" in new or len(new) > _READ_EVERY):
            return None
        self._read = len(text)
        sections = list(self._marks.sections(text))
        if sections and sections[-1].name == ANSWER and stops_loops() and is_endless(text[sections[-1].start :]):
            return self._end(text)
        if len(self.interventions) >= self._max_interventions:
            return None
        for section in sections[len(self._accepted) :]:
            if (correction := self._judge(section, text)) is not None:
                return correction
            if section.name == ANSWER or not section.closed:
                return None
        end = sections[-1].end if sections else 0
        if self._next() != ANSWER and len(text) - end > self._stage_characters:
            return self._correct(end, text, self._next(), "stages", "That is enough.")
        return None

    def pause(self) -> str | None:
        """The mark at which an engine that cannot stream stops next; None when it can write the rest in one go."""
        self._pauses, due = True, self._next()
        done = due == ANSWER or len(self.interventions) >= self._max_interventions
        return None if done else self._marks.ending(due)

    @property
    def correction_mode(self) -> CorrectionMode:
        """How the answer was read: "stages" if the engine stopped at each stage, else "stream"."""
        return "stages" if self._pauses else "stream"

    def _next(self) -> str:
        return next((name for name in self._types if name not in self._accepted), ANSWER)

    def _judge(self, section: Section, text: str) -> Correction | None:
        due, name = self._next(), section.name
        if name != due:
            message = "The stages are done; the answer follows." if due == ANSWER else f"The stage {due} comes first."
            return self._correct(section.start, text, due, "stages", message)
        if name == ANSWER:
            return None
        if not section.closed:
            most = self._stage_characters * (1 if self._types[name] is str else 2)
            if len(section.text) > most or repeats(section.text, _LOOP, _LOOP_CHARACTERS):
                return self._correct(section.start, text, name, "stages", f"The stage {name} must be short.")
            return None
        try:
            value = self._marks.value(section.text, self._types[name])
        except Exception:  # pydantic, and the repair of broken JSON, raise errors of many kinds
            value = None
        if value is None or value == "":
            message = f"Fill the stage {name}." if not section.text else f"The stage {name} is not of its type."
            return self._correct(section.start, text, name, "parsed" if section.text else "stages", message)
        outcome = RunningOutcome(stages={**self._accepted, name: value}, due=self._outputs)
        for check in self._checks:
            if check.after not in self._ending[name]:
                continue
            try:
                verdict = check(self._inputs, outcome)
            except CheckError:  # it may read what is not written yet; a faulty check raises again at the end
                continue
            if not verdict.ok:
                return self._correct(section.start, text, name, check.name, verdict.message)
        self._accepted[name] = value
        self._written(name, value)
        return None

    def _end(self, text: str) -> Correction:
        message = "The answer repeats itself, and ends here."
        self.interventions.append(Intervention(stage=ANSWER, check="stages", message=message, at=len(text)))
        return Correction(len(text), "", "", ends=True)

    def _correct(self, start: int, text: str, stage: str, check: str, message: str) -> Correction:
        kept = max(len(text[:start].rstrip()), self._marks.earliest(text))
        self.interventions.append(
            Intervention(stage=stage, check=check, message=message, at=kept, replaced=text[kept:])
        )
        self._read = 0
        opening = self._marks.opening(stage, text[:kept])
        return Correction(kept, f"\n(Wait. {message})", f"\n{opening}")
