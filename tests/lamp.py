"""Folders in LaMP's format, good but for what a test changes."""

import json
from pathlib import Path

from programs.data.lamp.reading import iter_examples

GOLDS = {"LaMP_1": "[1]", "LaMP_2": "comedy", "LaMP_3": "4", "LaMP_4": "Rain Again", "LaMP_5": "On Rain"}
SAMPLES = Path(__file__).parents[1].parent / "shared/lamp_format"  # real data, where it lies beside the checkout


def item(task, key="a", **more):
    row = {"id": key} | {name: f"{name} of {key}" for name in task.fields}
    return row | ({task.label: GOLDS[task.lamp]} if task.label else {}) | more


def question(task, key="1", text="It rained.", **more):
    return {"id": key, "input": task.wording(text), "profile": [item(task)]} | more


def write(folder, task, questions, golds, split="dev"):
    """Golds as a dict, and what is not a list or a dict as it stands."""
    rows = [{"id": key, "output": value} for key, value in golds.items()] if isinstance(golds, dict) else golds
    outputs = golds if isinstance(golds, str) else json.dumps({"task": task.lamp, "golds": rows})
    (folder / f"{split}_questions.json").write_text(questions if isinstance(questions, str) else json.dumps(questions))
    (folder / f"{split}_outputs.json").write_text(outputs)


def load(*where, **options):
    return list(iter_examples(*where, **options))
