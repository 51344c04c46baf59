"""Faulty attempts and candidates, for rows in which the model is corrected."""

import random
import re

from finetune.pocket.teach import Lesson
from finetune.pocket.worlds import World
from programs.data.personas.world import Case
from programs.tasks.task import Task
from r2p_dspy.modules.voting import line
from r2p_dspy.profile import Profile
from r2p_dspy.template import Evidence, Preference, Verification

_FAULTS = ("item", "quote", "quote", "label", "backing", "uncited", "answer", "missing", "mixed")
_RIGHT = 0.7  # share of right candidates


def corrupted(rng: random.Random, task: Task, shown: Profile, lesson: Lesson, words: list[str]) -> tuple[Lesson, str]:
    """A lesson with a fault, and the fault's name: a wrong item, quote, label or answer, no evidence, or several.

    The caller makes the fault `missing`, in the text.
    """
    fault = rng.choice(_FAULTS)
    wrong = {**lesson}
    evidence = wrong["evidence"] = [quote.model_copy() for quote in lesson["evidence"]]
    preferences = wrong["preferences"] = [preference.model_copy() for preference in lesson["preferences"]]
    if fault in ("item", "mixed") and evidence:
        rng.choice(evidence).item = str(rng.randint(len(shown) + 1, 9))
    if fault in ("quote", "mixed") and evidence:
        cited = rng.choice(evidence)
        cited.quote = _misquote(rng, cited.quote, shown, words)
    labelled = [preference for preference in preferences if preference.label]
    if fault in ("label", "mixed") and labelled and task.labels:
        rng.choice(labelled).label = rng.choice(task.labels)
    if fault == "backing" and preferences:
        rng.choice(preferences).items = [str(rng.randint(1, 9))]
    if fault == "uncited":
        wrong["evidence"] = []
    if fault == "answer":
        wrong["answer"] = rng.choice(task.labels) if task.labels else " ".join(rng.sample(words, 5))
    return wrong, fault


def disordered(rng: random.Random, text: str, form: str, words: list[str]) -> str:
    """An attempt that leaves the template: it skips a stage, or has loose words between two."""
    marks = _marks(text, form)
    at = rng.randrange(len(marks) - 1)
    if rng.random() < 0.5:
        return text[: marks[at].start()] + text[marks[at + 1].start() :]
    loose = " ".join(rng.choice(words) for _ in range(rng.randint(300, 330)))
    return f"{text[: marks[at].start()]}{loose}\n\n{text[marks[at].start() :]}"


def guessed(case: Case, lesson: Lesson) -> Lesson:
    """A lesson that answers without the history."""
    verification = Verification(approved=True, reason="it fits")
    return {**lesson, "draft": case.blind, "answer": case.blind, "verification": verification}


def hurried(text: str, form: str) -> str:
    """An attempt that goes straight from the requirements to a draft."""
    marks = _marks(text, form)
    draft = next(mark for mark in marks if "draft" in mark[0])
    return text[: marks[1].start()] + text[draft.start() :]


def _marks(text: str, form: str) -> list[re.Match[str]]:
    """The beginnings of stages and fields."""
    return [*re.finditer(r"(?m)^<\w+>\n" if form == "think" else r"(?m)^\[\[ ## \w+ ## \]\]\n", text)]


def candidates(
    rng: random.Random, world: World, case: Case, shown: Profile, lesson: Lesson, words: list[str]
) -> tuple[list[str], list[int]]:
    """Candidates as the synthesizing predictor reads them, and the numbers of the right ones."""
    lines, right, task = [], [], world.task
    for number in range(1, rng.choice((2, 3, 3, 4, 5, 5)) + 1):
        candidate = lesson
        if rng.random() > _RIGHT:
            misreads = rng.random() < 0.6
            misread = world.teach(world.misread(rng, case), shown) if misreads else None
            candidate = misread or _stray(rng, task, shown, lesson, words)
        if rng.random() < 0.1:
            continue  # this candidate could not be read
        if candidate["answer"] == lesson["answer"]:
            right.append(number)
        stages = {"evidence": candidate["evidence"], "preferences": candidate["preferences"]}
        lines.append(line(number, {task.answer: candidate["answer"]}, stages))
    return lines, right


def _stray(rng: random.Random, task: Task, shown: Profile, lesson: Lesson, words: list[str]) -> Lesson:
    """A lesson whose answer comes from an item of the history, or from nowhere."""
    cited = rng.sample(shown.items, min(len(shown), rng.randint(1, 2)))
    evidence = [Evidence(item=item.id, quote=" ".join(item.text.split()[:3])) for item in cited]
    preferences = [
        Preference(statement=f"{quoted.quote.split()[0]} is {item.label}", items=[item.id], label=item.label)
        for item, quoted in zip(cited, evidence, strict=True)
        if item.label
    ]
    if not task.labels:
        answer = " ".join(rng.sample(words, 5))
    elif cited and rng.random() < 0.6:
        answer = cited[0].label or rng.choice(task.labels)
    else:
        answer = rng.choice(task.labels)
    return {**lesson, "evidence": evidence, "preferences": preferences, "answer": answer}


def _misquote(rng: random.Random, quote: str, shown: Profile, words: list[str]) -> str:
    if rng.random() < 0.5:
        text = rng.choice(shown.items).text.split()
        start = rng.randrange(max(1, len(text) - 2))
        return " ".join(text[start : start + 3])
    parts = quote.split()
    parts[rng.randrange(len(parts))] = rng.choice(words)
    return " ".join(parts)
