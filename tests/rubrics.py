"""Rows and files of LaMP-QA."""

import json

from programs.tasks import TASKS

TASK = TASKS["lampqa-art"]
ASPECTS = [
    {"aspect": "Quick ink", "reason": "the hand smears it", "evidence": "most inks smear"},
    {"aspect": "A low price", "reason": "a student", "evidence": "I have no money"},
]


def question(key="1", **changes):
    """A good row, with changes."""
    items = [{"id": f"{key}{n}", "text": f"Question {n} of {key}: I write with my left hand."} for n in range(3)]
    narrative = f"I am {key}. I write with my left hand, and most inks smear."
    row = {"id": key, "question": f"Which pen for {key}?", "narrative": narrative, "rubric_aspects": ASPECTS}
    return {**row, "profile": items, **changes}


def write(folder, rows, split="validation"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{TASK.shape}_{split}.json"
    path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return path
