"""Reports for tests: made by the code that makes those of runs, then changed."""

import json

import dspy

from programs.data.dataset import PERSONA_WORLD, Data
from programs.evaluate.report import build_report
from programs.runs.model import ModelConfig
from programs.tasks import TASKS
from programs.tasks.program import R2PConfig
from r2p_dspy import Profile

GOLDS = ("comedy", "action", "comedy", "romance")
_ROW = {
    "user": None, "parse_failure": None, "calls": 2, "prompt_tokens": 100, "completion_tokens": 10, "seconds": 0.5,
    "latency": [0.2], "interventions": 0, "compliant": True, "compliant_first": True, "evidence": True,
    "evidence_first": False, "violations": [], "violations_first": [],
}  # fmt: skip


def report(model="openai/gpt-x", right=None, source=PERSONA_WORLD, **changed):
    """A report of programs that are right on the first so many of four questions, with some keys changed."""
    task = TASKS["lamp2"]
    examples = [
        dspy.Example(id=str(n), description=f"film {n}", profile=Profile(), tag=gold).with_inputs(
            "description", "profile"
        )
        for n, gold in enumerate(GOLDS)
    ]
    rows = {
        name: [
            {**_ROW, "id": str(n), "gold": gold, "answer": gold if n < count else "violence"}
            for n, gold in enumerate(GOLDS)
        ]
        for name, count in (right or {"predict": 1, "r2p": 3}).items()
    }
    made = build_report(
        "evaluate",
        task,
        Data(examples, [], examples, source, "test"),
        rows,
        model=ModelConfig(model, seed=3),
        lm=dspy.LM(model),
        settings=R2PConfig(k=2),
        retriever_tokens=None,
        seconds=1.0,
        extra={},
    )
    return json.loads(json.dumps(made | changed))


def write(directory, content):
    """A run's directory with this report."""
    directory.mkdir(parents=True)
    (directory / "report.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def with_value(content, metric, value):
    """The same report, with another value of a metric of `r2p`, which no other program has then."""
    content["programs"] = {"r2p": content["programs"]["r2p"]}
    content["programs"]["r2p"]["metrics"] = {metric: {"value": value, "low": value, "high": value}}
    content["programs"]["r2p"]["baselines"] = {}
    content["floors"] = {metric: {}}
    return content
