"""Own tasks whose answer has a type: right answers count as right, and every file that a command writes is JSON."""

import json
import re
from pathlib import Path

import dspy
import pytest

from programs.runs import model as options
from r2p_dspy.values.typed import same
from tests.scripted import STAGES, ScriptedEngine
from tests.test_cli import report_of, run

TASK = '''
import enum
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, Optional

import dspy
from pydantic import BaseModel

from programs.tasks.task import Task
from r2p_dspy import Profile

class Mood(str, enum.Enum):
    HAPPY = "happy"
    SAD = "sad"

class Colour(enum.Enum):
    RED = "happy"
    BLUE = "sad"

class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2

class Showing(BaseModel):
    day: date
    mood: Mood

class Felt(dspy.Signature):
    """Say how the user felt."""
    note: str = dspy.InputField()
    profile: Profile = dspy.InputField()
    felt: {annotation} = dspy.OutputField()

TASK = Task(
    name="feelings", signature=Felt, question="note", answer="felt", fields=("note",), metrics=({metric},), {more}
)
'''
LABELLED = {  # the annotation, the golds of two notes as JSON
    "str Enum": ("Mood", ["happy", "sad"]),
    "Enum": ("Colour", ["happy", "sad"]),
    "IntEnum": ("Level", [1, 2]),
    "Literal": ('Literal["happy", "sad"]', ["happy", "sad"]),
    "Literal of int": ("Literal[1, 2]", [1, 2]),
    "bool": ("bool", [True, False]),
    "Optional Enum": ("Optional[Mood]", ["happy", None]),
    "Optional Literal": ('Literal["happy", "sad"] | None', ["happy", None]),
}
OPEN = {
    "str": ("str", ["happy", "sad"]),
    "int": ("int", [0, 7]),
    "float": ("float", [0.5, 7]),
    "Decimal": ("Decimal", ["0.5", "7"]),
    "date": ("date", ["2024-05-06", "1999-01-01"]),
    "datetime": ("datetime", ["2024-05-06T07:08:00", "1999-01-01T00:00:00"]),
    "list": ("list[str]", [["a", "b"], []]),
    "list of Literal": ('list[Literal["a", "b"]]', [["a"], ["b"]]),
    "dict": ("dict[str, int]", [{"a": 1}, {}]),
    "Optional int": ("int | None", [1999, None]),
    "pydantic": ("Showing", [{"day": "2024-05-06", "mood": "sad"}, {"day": "1999-01-01", "mood": "happy"}]),
}
BY_STOCK_DSPY_UNREAD = ("Level",)  # it reads no number as an Enum


def written(value):
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def writer(golds):
    """A model that answers every third note wrong, if it sees no demo."""

    def complete(request):
        prompt = "\n".join(message.text or "" for message in request.messages)
        notes = re.findall(r"note number (\d+)", prompt)
        wrong = len(notes) == 1 and int(notes[-1]) % 3 == 2
        answer = written(golds[(int(notes[-1]) + wrong) % 2])
        evidence = json.dumps([{"item": "1", "quote": "an old note"}])
        preferences = json.dumps([{"statement": "feels so", "items": ["1"]}])
        said = {"evidence": evidence, "preferences": preferences, "draft": answer, "felt": answer}
        fields = {"reasoning": "as before", **STAGES, **said}
        return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items() if name != "tag")

    return complete


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """commands(annotation, golds, metric) writes a task and its rows, and connects a model that answers them."""

    def prepare(annotation, golds, metric, more=""):
        monkeypatch.chdir(tmp_path)
        Path("task.py").write_text(TASK.format(annotation=annotation, metric=repr(metric), more=more))
        history = [{"id": "old", "note": "an old note"}]
        rows = [
            {"id": n, "user": n // 6, "note": f"note number {n}", "profile": history, "felt": golds[n % 2]}
            for n in range(36)
        ]
        Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        engine = ScriptedEngine(writer(golds))
        monkeypatch.setattr(options, "connect", lambda *_, **__: dspy.LM("scripted/x", engine=engine, cache=False))
        return engine

    return prepare


@pytest.mark.parametrize(("annotation", "golds"), LABELLED.values(), ids=LABELLED)
def test_labels_of_the_type_are_the_tasks(commands, annotation, golds):
    commands(annotation, golds, "accuracy")
    result = run("evaluate", "--task", "task.py", "--data", "rows.jsonl", "--output", "run")
    assert result.exit_code == 0, result.output + result.stderr
    entry = report_of("run")["programs"]["r2p"]
    assert entry["metrics"]["accuracy"]["value"] == pytest.approx(2 / 3, abs=0.001)
    assert entry["calls"] == report_of("run")["examples"] and entry["violations"] == entry["parse_failures"] == {}


@pytest.mark.parametrize(("annotation", "golds"), {**LABELLED, **OPEN}.values(), ids={**LABELLED, **OPEN})
def test_every_type_is_compiled_and_predicted(commands, annotation, golds):
    commands(annotation, golds, "accuracy" if (annotation, golds) in LABELLED.values() else "rouge1")
    data = ("--data", "rows.jsonl", "--limit", 10, "--optimizer", "bootstrap")
    result = run("compile", "--task", "task.py", *data, "--output", "run")
    assert result.exit_code == 0, result.output + result.stderr
    for entry in report_of("run")["programs"].values():
        assert entry["violations"] == entry["parse_failures"] == {} or annotation in BY_STOCK_DSPY_UNREAD
    demos = json.loads(Path("run/program.json").read_text())["predictors"]["reason"]["demos"]
    assert demos and all(any(same(demo["felt"], gold) for gold in golds) for demo in demos)
    arguments = ("--task", "task.py", "--input", "rows.jsonl", "--output", "out.jsonl", "--program", "run/program.json")
    result = run("predict", *arguments)
    assert result.exit_code == 0, result.output + result.stderr
    answers = [json.loads(line)["felt"] for line in Path("out.jsonl").read_text().splitlines()]
    assert len(answers) == 36 and all(same(answer, golds[number % 2]) for number, answer in enumerate(answers))


@pytest.mark.parametrize(
    ("annotation", "gold", "why"),
    [
        ("Mood", "glad", "line 1, row 0: its felt is 'glad', not a label of the task"),
        ("int", "many", "line 1, row 0: its felt is 'many', not of the type int"),
        ("date", "in May", "line 1, row 0: its felt is 'in May', not of the type date"),
        ("str", 4, "line 1, row 0: its felt is 4, not a text"),
    ],
)
def test_gold_of_another_type_is_refused(commands, annotation, gold, why):
    commands(annotation, [gold, gold], "rouge1" if annotation != "Mood" else "accuracy")
    result = run("evaluate", "--task", "task.py", "--data", "rows.jsonl")
    assert result.exit_code == 2 and why in result.stderr and result.stderr.count("\n") == 1, result.stderr


def test_labels_that_differ_from_the_type_are_refused(commands):
    commands("Mood", ["happy", "sad"], "accuracy", 'labels=("happy", "glad")')
    result = run("evaluate", "--task", "task.py", "--data", "rows.jsonl")
    assert result.exit_code == 2 and "the labels differ from those of 'felt' in the signature" in result.stderr
