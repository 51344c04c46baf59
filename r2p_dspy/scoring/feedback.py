"""What a score says in words: which stage failed, what was wrong with it, and what a good one does."""

from collections.abc import Mapping, Sequence
from typing import Any

from r2p_dspy.checks import BUILT_IN, Verdict, evidence_of
from r2p_dspy.modules.enforce import Attempt, accepted
from r2p_dspy.modules.voting import Candidate
from r2p_dspy.outcome import Outcome
from r2p_dspy.profile import Profile

# What a good answer does where a built-in check failed; of a check of one's own the message says it.
GOOD: Mapping[str, str] = {
    "parsed": "A good answer writes every field once, each as its type asks.",
    "stages": "A good answer fills every stage, in the order of the template.",
    "cited": "Good evidence cites at least one of the items shown, by its id, and no other.",
    "quoted": "Good evidence copies each quote word for word from the item that it cites.",
    "backed": "Good preferences rest on items that the evidence cites.",
    "labelled": "A good preference bears the label of its items, or none.",
    "approved": "A good verification approves the draft only if the evidence supports it, and the answer repeats it.",
}
# Where a verdict does not say it: what was made by hand, and a check that runs only at the end.
_STAGES = {check.name: check.after for check in BUILT_IN if check.after} | {"approved": "verification"}


def words(example: Any, prediction: Any, right: bool, attempts: Sequence[Attempt], predictor: str | None = None) -> str:
    """Feedback for whoever rewrites a program's instructions, in one line.

    It is of the *first* attempt, as the instructions alone made it: what backtracking or an intervention mended after
    that is told all the same, and that it was mended.

    Args:
        example: with the right outputs.
        prediction: of an R2P program, or of any module.
        right: whether the task's own score is full.
        attempts: of the prediction, or of the predictor in question.
        predictor: whose instructions are to be rewritten, as in `named_predictors`; "synthesize" is told of its
            comparison, all others of the stages. None: the program as a whole.

    Example:
        >>> import dspy
        >>> words(dspy.Example(tag="comedy"), dspy.Prediction(tag="drama"), False, [])
        "The tag was 'drama'; right is 'comedy'."
    """
    golds = {name: example[name] for name in prediction if name in example}
    wrong = {} if right else {name: gold for name, gold in golds.items() if prediction[name] != gold}
    said = [f"The {name} was {prediction[name]!r}; right is {gold!r}." for name, gold in wrong.items()]
    said = said or ([] if right else ["The answer is wrong."])
    candidates = [one for one in _given(prediction, "candidates", list) or [] if isinstance(one, Candidate)]
    if predictor is not None and predictor.split(".")[-1] == "synthesize" and candidates:
        said += _compared(candidates, wrong)
    else:
        said += _traced(prediction, wrong)
        said += _checked(attempts)
    return " ".join(" ".join(said).split()) or "Right, and every check holds."


def _checked(attempts: Sequence[Attempt]) -> list[str]:
    """What the checks say of the first attempt, and what became of it."""
    if not attempts:
        return []
    first, last = attempts[0], accepted([*attempts])
    said = [_failure(one) for one in first.unmet if one.message]
    if last is first:
        return said
    if first.unmet and not last.unmet:
        how = "An intervention while it reasoned" if first.interventions else "Backtracking"
        return [*said, f"{how} mended it; a good answer needs none."]
    before = {one.check for one in first.unmet}
    return [*said, *(f"Retried: {_failure(one)}" for one in last.unmet if one.message and one.check not in before)]


def _failure(verdict: Verdict) -> str:
    stage = verdict.stage or _STAGES.get(verdict.check)
    where = f"Stage {stage}" if stage else "The answer"
    return f"{where} fails [{verdict.check}]: {verdict.message} {GOOD.get(verdict.check, '')}".strip()


def _traced(prediction: Any, wrong: Mapping[str, Any]) -> list[str]:
    """Which stage led to a wrong answer, as far as labels and the draft tell."""
    outcome, items = _given(prediction, "outcome", Outcome), _given(prediction, "retrieved", Profile)
    if outcome is None or len(wrong) != 1:
        return []
    [(name, gold)] = wrong.items()
    if _same(outcome.stages.get("draft"), gold):
        return [f"Stage draft had it right. A good {name} is the draft that was approved."]
    bearing = [item.id for item in items or () if item.label is not None and _same(item.label, gold)]
    if not bearing or "evidence" not in outcome.stages:
        return []
    if {one.item for one in evidence_of(outcome)} & {*bearing}:
        return [
            "Stage evidence cites an item with the right answer, and the stages after it leave it. "
            "Good preferences say what all of the evidence shows."
        ]
    listed = ", ".join(bearing)
    return [
        f"Stage evidence cites none of the items that bear the right answer ({listed}). "
        "Good evidence cites the items that are most like the input, whatever their labels."
    ]


def _compared(candidates: Sequence[Candidate], wrong: Mapping[str, Any]) -> list[str]:
    """What the comparison of candidates did, and could have done."""
    if not wrong:
        return []
    having = [
        str(number)
        for number, one in enumerate(candidates, start=1)
        if one.survives and any(_same(one.answer.get(name), gold) for name, gold in wrong.items())
    ]
    if not having:
        return ["No candidate had it. A good comparison sees that none of the evidence supports what they agree on."]
    return [
        f"Candidate {', '.join(having)} had it right. "
        "A good comparison weighs each candidate's evidence against the history, not how many agree."
    ]


def _given(prediction: Any, name: str, kind: Any) -> Any:
    """What R2P says beside the answer; a user's own output of that name is something else."""
    value = prediction.get(name) if hasattr(prediction, "get") else None
    return value if isinstance(value, kind) else None


def _same(one: Any, other: Any) -> bool:
    return one is not None and str(one).strip() == str(other).strip()
