"""What a program returns: the signature's outputs, and the details of how they came about."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import dspy
from pydantic_core import to_json

from r2p_dspy.checks import Verdict
from r2p_dspy.decoding.monitor import CorrectionMode, Intervention
from r2p_dspy.dspy_internals import copy_completions, picklable_state
from r2p_dspy.explaining.as_html import as_html
from r2p_dspy.explaining.as_text import as_text as explained
from r2p_dspy.explaining.attempts import Attempt, Candidate, accepted
from r2p_dspy.explaining.explanation import Explanation
from r2p_dspy.outcome import Inputs, Outcome, unshadowed
from r2p_dspy.profile import Item, Profile
from r2p_dspy.prompting.causes import Unreadable
from r2p_dspy.values.typed import as_text

__all__ = ["Attempt", "Candidate", "Details", "R2PPrediction", "Reasoning", "accepted", "attempts_of"]


class Reasoning(str):
    """A prediction's reasoning: text, with every stage as a typed attribute.

    The text has one stage a line, so modules that expect a chain of thought can read it. A stage wins over a method of
    `str` that has its name.

    Args:
        stages: the value of each stage by name; None where it could not be read.
        cited: the cited items under their own ids, in the order of their first citation.

    Examples:
        >>> reasoning = Reasoning({"requirements": "a tag", "evidence": []})
        >>> reasoning.requirements, reasoning.evidence, reasoning.splitlines()
        ('a tag', [], ['requirements: a tag', 'evidence: []'])
    """

    stages: dict[str, Any]  # values of any type: the template decides
    cited: tuple[Item, ...]

    def __new__(cls, stages: Mapping[str, Any], cited: Sequence[Item] = ()) -> Reasoning:
        lines = (f"{name}: {_as_text(value)}" for name, value in stages.items() if value is not None)
        reasoning = super().__new__(cls, "\n".join(lines))
        reasoning.stages, reasoning.cited = dict(stages), tuple(cited)
        return reasoning

    def __getnewargs__(self) -> tuple[Any, ...]:  # for pickle: the arguments of __new__
        return self.stages, self.cited

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_") and name not in ("stages", "cited"):
            stages = self.__dict__.get("stages", {})
            if name in stages:
                return stages[name]
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the template has no stage {name!r}; it has {', '.join(self.__dict__.get('stages', {}))}")


@dataclass(frozen=True)
class Details:
    """How an answer came about.

    Args:
        reasoning: the stages, typed, and the cited items.
        outcome: the outcome that the checks saw; of an accepted attempt, with the quotes and labels as the user's own
            items have them.
        inputs: the inputs that the checks saw, with the items as the model saw them.
        attempts: every attempt, first to last; of the chosen candidate, where there are several. An attempt that was
            corrected while it ran counts as two, without and with the corrections.
        interventions: the corrections of the accepted attempt while it ran.
        correction_mode: how a failed check would reach the model: "constrained" (a grammar kept the form; what it
            means was checked all the same), "stream" (during the generation), "stages" (between two stages) or "retry"
            (after the generation).
        candidates: the reconciled candidates; empty without cross-referencing.
        decision: why the chosen candidate won, in words.
        truncated_chars: the number of characters cut from the items to fit the model's context.
        warnings: what a reader of the answer must know, such as that no item was shown.
        completion: the text of the accepted attempt as the model wrote it.
        unreadable: why the accepted attempt could not be read; None if it could.
    """

    reasoning: Reasoning = field(default_factory=lambda: Reasoning({}))
    outcome: Outcome = field(default_factory=Outcome)
    inputs: Inputs = field(default_factory=lambda: Inputs(fields={}))
    attempts: list[Attempt] = field(default_factory=list)
    interventions: list[Intervention] = field(default_factory=list)
    correction_mode: CorrectionMode = "retry"
    candidates: list[Candidate] = field(default_factory=list)
    decision: str = ""
    truncated_chars: int = 0
    warnings: list[str] = field(default_factory=list)
    completion: str = ""
    unreadable: Unreadable | None = None

    @property
    def retrieved(self) -> Profile:
        """The items as the model saw them, under their local ids."""
        return unshadowed(self.inputs).items

    @property
    def violations(self) -> list[Verdict]:
        """The verdicts of the checks that the accepted attempt leaves unmet; empty on a clean answer."""
        return accepted(self.attempts).unmet if self.attempts else []

    def explanation(self, answers: Mapping[str, Any] | None = None) -> Explanation:
        """What there is to tell of the answer, typed. `answers` are the outputs, by default those that checks saw."""
        return Explanation.of(
            unshadowed(self.outcome).fields if answers is None else answers,
            self.inputs,
            self.outcome,
            attempts=self.attempts,
            candidates=self.candidates,
            decision=self.decision,
            warnings=self.warnings,
        )

    def _repr_html_(self) -> str:
        """The explanation as a notebook shows it; every text is escaped."""
        return as_html(self.explanation())


_NAMES = {*(entry.name for entry in fields(Details)), "retrieved", "violations"}
_RENAMED = {"grade": "correction_mode", "cut": "truncated_chars", "notes": "warnings", "reconciled": "decision"}


class R2PPrediction(dspy.Prediction):
    """A prediction with details.

    From `R2P`, its fields are the signature's outputs alone; only fields reach traces, demos and `toDict()`. The names
    in `Details` are attributes too, and `get` finds them, unless an output has that name. Copies and pickles keep the
    details.

    Args:
        base: a prediction or a dict whose fields to take over.
        details: how the answer came about; default: those of `base`.
        fields: more fields, or new values.

    Examples:
        >>> answer = R2PPrediction({"tag": "comedy"}, details=Details(decision="2 of 3 agree"))
        >>> answer.tag, answer.decision, answer.get("violations"), answer.toDict()
        ('comedy', '2 of 3 agree', [], {'tag': 'comedy'})
    """

    def __init__(
        self, base: dspy.Example | Mapping[str, Any] | None = None, *, details: Details | None = None, **fields: Any
    ) -> None:
        inherited = dict(base.items(include_dspy=True) if isinstance(base, dspy.Example) else base or {})
        super().__init__({**inherited, **fields})  # type: ignore[no-untyped-call]
        if isinstance(base, dspy.Prediction):
            copy_completions(base, self)
        self._details = details or (base.details if isinstance(base, R2PPrediction) else Details())

    @property
    def details(self) -> Details:
        """How the answer came about."""
        return self._details

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            if name in self:
                return self[name]
            if name in _NAMES or name in _RENAMED:
                return self._detail(name)
        return super().__getattr__(name)  # type: ignore[no-untyped-call]

    def get(self, key: str, default: Any = None) -> Any:
        """A field or, where no field has that name, a detail; else `default`."""
        if key in self:
            return self[key]
        return self._detail(key) if key in _NAMES or key in _RENAMED else default

    def _detail(self, name: str) -> Any:
        if (now := _RENAMED.get(name)) is not None:
            warnings.warn(f"prediction.{name} is now prediction.{now}", DeprecationWarning, stacklevel=3)
        return getattr(self.details, now or name)

    def __getstate__(self) -> dict[str, Any]:
        return picklable_state(self)

    def explain(self) -> str:
        """The answer as a person reads it, in plain text under headings.

        The question; the answer; each cited item with its quotes between « and »; preferences; what was corrected, and
        when; candidates and why one of them won; unmet checks; warnings. What does not apply is left out. Items stand
        under their own ids. No text can hold what a terminal obeys. In a notebook, `answer.details` shows the same.

        Examples:
            >>> from r2p_dspy import Evidence, Inputs, Outcome, Profile
            >>> history = Profile.of([{"id": "m7", "text": "a lighthouse in the rain", "label": "romance"}])
            >>> inputs = Inputs({"film": "the keeper", "profile": history}, history.local())
            >>> evidence = [Evidence(item="1", quote="a lighthouse")]
            >>> outcome = Outcome({"tag": "romance"}, {"evidence": evidence}, answers=("tag",))
            >>> print(R2PPrediction({"tag": "romance"}, details=Details(inputs=inputs, outcome=outcome)).explain())
            Question:
            - film: the keeper
            <BLANKLINE>
            Answer:
            - tag: romance
            <BLANKLINE>
            Evidence:
            - item m7 (romance): «a lighthouse» in the rain
        """
        return explained(self.details.explanation(dict(self.items())))

    def _repr_html_(self) -> str:
        return as_html(self.details.explanation(dict(self.items())))


def attempts_of(prediction: object) -> list[Attempt]:
    """The attempts behind a prediction; none for a module without checks.

    The attempts of a program inside another one are in the trace: each step (predictor, inputs, prediction) that an
    `Enforce` accepted ends with an `R2PPrediction`. A prediction of your own can pass them on as a field `attempts`.
    """
    if isinstance(prediction, R2PPrediction) and prediction.details.attempts:
        return prediction.details.attempts
    passed_on = getattr(prediction, "attempts", None)
    return [entry for entry in passed_on if isinstance(entry, Attempt)] if isinstance(passed_on, list | tuple) else []


def _as_text(value: object) -> str:
    if isinstance(value, str | Enum):
        return as_text(value)
    try:
        return to_json(value, fallback=str).decode()
    except ValueError:  # half of a surrogate pair, as broken JSON has them
        return str(value)
