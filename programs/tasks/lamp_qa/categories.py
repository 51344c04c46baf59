"""LaMP-QA, personalized answers to questions of three categories.

question:       Which pen should I buy?
profile:        {"id": "12", "text": "How do I clean a nib? I write with my left hand …"}
narrative:      I write with my left hand, and most inks smear …
rubric_aspects: {"aspect": "Ink that dries quickly", "reason": "…", "evidence": "most inks smear"}

Narrative and aspects are the rubric. There is no right answer: a judge gives points for each aspect (`--judge`).
"""

import dspy

from programs.tasks.task import Task
from r2p_dspy.profile import Profile


class Answer(dspy.Signature):
    """Answer the question as this user needs it to be answered."""

    question: str = dspy.InputField(desc="what the user asks")
    profile: Profile = dspy.InputField(desc="what the user asked before, and said of it")
    answer: str = dspy.OutputField(desc="an answer that covers what this user cares about")


def _task(name: str, category: str) -> Task:
    return Task(
        name=name,
        shape=category,
        signature=Answer,
        question="question",
        answer="answer",
        gold="rubric",
        fields=("text",),
        metrics=("coverage",),
        threshold=0.3,
        template="aspects",
    )


CATEGORIES = (
    _task("lampqa-art", "Art_and_Entertainment"),
    _task("lampqa-lifestyle", "Lifestyle_and_Personal_Development"),
    _task("lampqa-society", "Society_and_Culture"),
)
