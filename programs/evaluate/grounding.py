"""Counterfactuals of an R2P program: the same questions without each of the items that it saw, one after another.

An item is taken out of the history, so the next one of the retriever's ranking stands in its place, if there is one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from metrics.grounding import Grounded, faithfulness, recall, separation
from metrics.intervals import Interval
from programs.evaluate.controls import ReplaceProfile, asked
from programs.evaluate.report import Row, answer_of, scored
from programs.tasks.task import Task
from r2p_dspy import R2P, Profile
from r2p_dspy.modules.voting import alike, key

MOST = 8  # items of an example that are taken out

Measure = Callable[[str, dspy.Module, Sequence[dspy.Example]], Sequence[Row] | None]  # None if a limit is reached


def grounding(
    program: R2P, task: Task, examples: Sequence[dspy.Example], rows: Sequence[Row], measure: Measure
) -> dict[str, Any] | None:
    """What a program's citations are worth, from its rows and from further runs without single items.

    Args:
        program: the program of the rows.
        task: what it does.
        examples: those of the rows.
        rows: its rows on the examples; those that failed or cannot be read are left out.
        measure: runs a module under a name on some of the examples.

    Returns:
        - `evidence_recall`: the share of the supporting items among those shown that the answers cite; the persona
          world knows the supporting ones (`known_support`), elsewhere they are those without which the score falls;
        - `faithfulness`: how much more an answer changes without a cited item than without another that was shown: for
          labels the share of changed answers, for texts 1 - ROUGE-L;
        - `faithfulness_shuffled`: the same, with the items that stand one place after the cited ones in their place. It
          is about 0 or less; if the two are alike, the citations are no better than chance;
        - `faithfulness_gain`: the difference of these two, paired by example;
        - `examples`: how many examples there are. Each of the first four has its 95 % interval, or is None where it
          applies to no example.

        None if a limit of the run stopped the further runs.
    """
    answered = {row["id"]: row for row in scored(rows) if not row["parse_failure"] and not row.get("failed")}
    shown = {example.id: _shown(program, task, example) for example in examples if example.id in answered}
    without: dict[str, dict[str, Row]] = {name: {} for name in shown}
    for place in range(max(map(len, shown.values()), default=0)):
        wanted = [example for example in examples if len(shown.get(example.id, ())) > place]
        replacements = {
            asked(task, example): _without(example[task.profile], shown[example.id][place]) for example in wanted
        }
        results = measure(f"without:{place + 1}", ReplaceProfile(program, task, replacements), wanted)
        if results is None:
            return None
        for row in scored(results):
            if not row.get("failed"):
                without[row["id"]][shown[row["id"]][place]] = row
    known = [example for example in examples if example.id in shown]
    grounded = [_grounded(task, answered[example.id], without[example.id], example) for example in known]
    shuffled = [_shuffled(example) for example in grounded]
    return {
        "evidence_recall": _rounded(recall(grounded)),
        "known_support": bool(grounded) and all(example.support is not None for example in grounded),
        "faithfulness": _rounded(faithfulness(grounded)),
        "faithfulness_shuffled": _rounded(faithfulness(shuffled)),
        "faithfulness_gain": _rounded(separation(grounded, shuffled)),
        "examples": len(grounded),
    }


def _shown(program: R2P, task: Task, example: dspy.Example) -> list[str]:
    """The ids of the items that a program shows its model, at most `MOST`."""
    retrieved = program.retrieve(dict(example.inputs()))[program.reason.profile]
    return [item.id for item in retrieved][:MOST]


def _without(profile: Profile, name: str) -> Profile:
    return Profile(items=[item for item in profile if item.id != name])


def _grounded(task: Task, row: Row, without: Mapping[str, Row], example: dspy.Example) -> Grounded:
    answer = answer_of(row)
    changed = {name: _change(task, answer, answer_of(other)) for name, other in without.items()}
    lost = {name: row["score"] - other["score"] for name, other in without.items()}
    user = row["user"] or row["id"]
    return Grounded(user, {*row["cited"]}, changed, lost, example.get("supporting_items"))


def _change(task: Task, answer: Any, other: Any) -> float:
    if task.labels:
        return float(key(answer) != key(other))
    return 1 - alike(str(answer), str(other))


def _shuffled(example: Grounded) -> Grounded:
    """The same example with the item after each cited one in its place, in the order in which they were shown."""
    names = [*example.changed]
    following = {name: names[(place + 1) % len(names)] for place, name in enumerate(names)}
    cited = {following[name] for name in example.cited if name in following}
    return Grounded(example.user, cited, example.changed, example.lost, example.support)


def _rounded(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval.rounded()
