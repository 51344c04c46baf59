"""Feedback on an answer in words: which stage failed, what was wrong with it, and what a good one does."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from r2p_dspy.checks import BUILT_IN, Verdict, evidence_of
from r2p_dspy.outcome import Outcome, unshadowed
from r2p_dspy.prediction import Attempt, Candidate, R2PPrediction, accepted
from r2p_dspy.profile import Profile
from r2p_dspy.values.folding import same_label
from r2p_dspy.values.typed import as_text, plain, same

T = TypeVar("T")

# What a good answer does, by built-in check. A user's check says it in its own message.
GOOD: Mapping[str, str] = {
    "parsed": "A good answer writes every field once, each as its type asks.",
    "stages": "A good answer fills every stage, in the order of the template.",
    "cited": "Good evidence cites at least one of the items shown, by its id, and no other.",
    "quoted": "Good evidence copies each quote word for word from the item that it cites.",
    "backed": "Good preferences rest on items that the evidence cites.",
    "labelled": "A good preference bears the label of its items, or none.",
    "approved": "A good verification approves the draft only if the evidence supports it, and the answer repeats it.",
}
GOOD_FORMAT = "A good answer has the format that the prompt asks for."
# The stage of a check, for verdicts that do not name one.
_STAGES = {check.name: check.after for check in BUILT_IN if check.after} | {"approved": "verification"}


# Examples, predictions and their fields are `Any`: DSPy hands any object to a metric.
def write_feedback(
    example: Any, prediction: Any, correct: bool, attempts: Sequence[Attempt], predictor: str | None = None
) -> str:
    """Write feedback for an optimizer that rewrites a program's instructions, in one line.

    It is about the *first* attempt, which the instructions alone produced. It reports failures that backtracking or an
    intervention corrected, and that they were corrected.

    Args:
        correct: whether the task's own score is 1.
        attempts: of the prediction, or of the predictor in question.
        predictor: whose instructions are to be rewritten, as `named_predictors` names it. "synthesize" gets feedback
            on its comparison of the candidates, all others on the stages. None: the whole program.

    Examples:
        >>> import dspy
        >>> write_feedback(dspy.Example(tag="comedy"), dspy.Prediction(tag="drama"), False, [])
        "The tag was 'drama'; right is 'comedy'."
    """
    golds = {name: example[name] for name in prediction if name in example}
    wrong = {} if correct else {name: gold for name, gold in golds.items() if not same(prediction[name], gold)}
    sentences = [
        f"The {name} was {plain(prediction[name])!r}; right is {plain(gold)!r}." for name, gold in wrong.items()
    ]
    if not correct and not sentences:
        sentences = ["The answer is wrong."]
    candidates = [entry for entry in _detail(prediction, "candidates", list) or [] if isinstance(entry, Candidate)]
    if predictor is not None and predictor.split(".")[-1] == "synthesize" and candidates:
        sentences += _on_candidates(candidates, wrong)
    else:
        sentences += _on_stages(prediction, wrong)
        sentences += _on_checks(attempts)
    return " ".join(" ".join(sentences).split()) or "Right, and every check holds."


def _on_checks(attempts: Sequence[Attempt]) -> list[str]:
    """The checks that the first attempt failed, and whether a later one passed them."""
    if not attempts:
        return []
    first, last = attempts[0], accepted([*attempts])
    failures = [_failure(verdict) for verdict in first.unmet if verdict.message]
    if first.shape:
        failures.insert(0, f"The answer came as {first.shape}. {GOOD_FORMAT}")
    if last is first:
        return failures
    if first.unmet and not last.unmet:
        how = "An intervention while it reasoned" if first.interventions else "Backtracking"
        return [*failures, f"{how} mended it; a good answer needs none."]
    before = {verdict.check for verdict in first.unmet}
    new = [verdict for verdict in last.unmet if verdict.message and verdict.check not in before]
    return [*failures, *(f"Retried: {_failure(verdict)}" for verdict in new)]


def _failure(verdict: Verdict) -> str:
    stage = verdict.stage or _STAGES.get(verdict.check)
    where = f"Stage {stage}" if stage else "The answer"
    return f"{where} fails [{verdict.check}]: {verdict.message} {GOOD.get(verdict.check, '')}".strip()


def _on_stages(prediction: Any, wrong: Mapping[str, Any]) -> list[str]:
    """The stage that led to a wrong answer, as far as the items' labels and the draft show it."""
    outcome, items = _detail(prediction, "outcome", Outcome), _detail(prediction, "retrieved", Profile)
    if outcome is None or len(wrong) != 1:
        return []
    [(name, gold)] = wrong.items()
    outcome = unshadowed(outcome)
    if outcome.stages.get("draft") is not None and _means(outcome.stages["draft"], gold):
        return [f"Stage draft had it right. A good {name} is the draft that was approved."]
    with_gold_label = [item.id for item in items or () if item.label is not None and _means(item.label, gold)]
    if not with_gold_label or "evidence" not in outcome.stages:
        return []
    if {evidence.item for evidence in evidence_of(outcome)} & {*with_gold_label}:
        return [
            "Stage evidence cites an item with the right answer, and the stages after it leave it. "
            "Good preferences say what all of the evidence shows."
        ]
    listed = ", ".join(with_gold_label)
    return [
        f"Stage evidence cites none of the items that bear the right answer ({listed}). "
        "Good evidence cites the items that are most like the input, whatever their labels."
    ]


def _on_candidates(candidates: Sequence[Candidate], wrong: Mapping[str, Any]) -> list[str]:
    """Whether the comparison could have chosen a candidate with the right answer."""
    if not wrong:
        return []
    correct = [
        str(number)
        for number, candidate in enumerate(candidates, start=1)
        if candidate.survives
        and any(name in candidate.answer and _means(candidate.answer[name], gold) for name, gold in wrong.items())
    ]
    if not correct:
        return ["No candidate had it. A good comparison sees that none of the evidence supports what they agree on."]
    return [
        f"Candidate {', '.join(correct)} had it right. "
        "A good comparison weighs each candidate's evidence against the history, not how many agree."
    ]


def _detail(prediction: Any, name: str, kind: type[T]) -> T | None:
    """What R2P reports beside the answer, also where the user's own output has that name."""
    if isinstance(prediction, R2PPrediction):
        value = getattr(prediction.details, name)
    else:
        value = prediction.get(name) if hasattr(prediction, "get") else None
    return value if isinstance(value, kind) else None


def _means(value: object, gold: object) -> bool:
    return same(value, gold) or same_label(as_text(value), as_text(gold))
