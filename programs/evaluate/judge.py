"""Judge free text with a language model: each program by the rubric, R2P against chain of thought in pairs."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from metrics.intervals import of_mean
from metrics.judge import JudgeError, Pairwise, Rubric, first_place
from programs.evaluate import report
from programs.evaluate.runner import Progress, collect, usage_fields
from programs.runs.directory import Run
from programs.runs.model import ModelConfig
from programs.tasks.task import Task
from r2p_dspy import BM25, connect
from r2p_dspy.errors import ConfigError

_BASE = "cot"
_COMPARED = ("r2p", "compiled")

Row = Mapping[str, Any]


def connected(task: Task, judge: ModelConfig | None) -> dspy.LM | None:
    """Connect to the judge, if there is one; refuses a task whose answers are labels."""
    if judge is None:
        return None
    if task.labels:
        raise ConfigError(f"--judge is for free text; {task.name} has labels, which its metrics score; leave it out")
    return connect(judge.name, api_base=judge.api_base, seed=judge.seed)


def judge(
    task: Task,
    examples: Sequence[dspy.Example],
    answers: Mapping[str, Sequence[Row]],
    lm: dspy.LM,
    run: Run,
    threads: int,
    start: Callable[[str, int, int], Progress],
) -> dict[str, Any]:
    """Let a language model judge the programs' answers to a free-text task; a judge that fails raises `JudgeError`.

    Judgements are kept in the run as the rows `judge:r2p` of the rubric and `judge:r2p:cot` of a comparison.

    Returns:
        The report's `judge`: `programs` has each program's mean score, `pairwise` how often the first of two programs
        won (a tie is half a win), both with 95 % intervals. `ties` is the share of ties, `first_place` how often the
        text that stood first was preferred (None if the judge was never asked). The cost is the judge's alone.
    """
    retriever = BM25(text=task.fields, tokenize=task.tokenize or str.split)
    rubric, pairwise = Rubric(retriever=retriever), Pairwise(retriever=retriever)
    golds = [{"id": example.id, "answer": example[task.answer]} for example in examples]

    def judged(module: dspy.Module, name: str, rows: Sequence[Row], against: Sequence[Row]) -> list[dict[str, Any]]:
        ours, theirs = ({row["id"]: row["answer"] for row in some} for some in (rows, against))
        judgements = run.rows(f"judge:{name}")
        tick = start(f"judge:{name}", len(examples), len({row["id"] for row in judgements}))

        def ask(example: dspy.Example) -> dict[str, Any]:
            try:
                return _row(module, task, example, ours[example.id], theirs[example.id])
            except JudgeError as error:
                raise JudgeError(f"{name}, example {example.id}: {error}; check --judge, then --resume") from error

        return collect(ask, examples, judgements, threads, tick)

    with dspy.context(lm=lm.copy(cache=False)):
        rated = {name: judged(rubric, name, rows, golds) for name, rows in answers.items()}
        compared = {
            name: judged(pairwise, f"{name}:{_BASE}", answers[name], answers[_BASE])
            for name in _COMPARED
            if name in answers and _BASE in answers
        }
    users = report.users([{"user": example.get("user")} for example in examples])

    def mean(rows: Sequence[Row]) -> dict[str, float]:
        return of_mean([row["score"] for row in rows], users=users).rounded()

    return {
        "lm": lm.model,
        "programs": {name: mean(rows) for name, rows in rated.items()},
        "pairwise": {f"{name} against {_BASE}": mean(rows) | _ties(rows) for name, rows in compared.items()},
        **report.usage([row for rows in (*rated.values(), *compared.values()) for row in rows], lm),
    }


def _ties(rows: Sequence[Row]) -> dict[str, float | None]:
    """The share of ties, and how often the text that stood first was preferred."""
    return {
        "ties": round(sum(row["score"] == 0.5 for row in rows) / len(rows), 4),
        "first_place": first_place([first for row in rows for first in row["firsts"]]),
    }


def _row(module: dspy.Module, task: Task, example: dspy.Example, answer: Any, against: Any) -> dict[str, Any]:
    started = time.monotonic()
    with dspy.track_usage() as usage, dspy.context(disable_history=True):
        judgement = module(
            profile=example[task.profile], request=example[task.question], answer=answer, against=against
        )
    return {"id": example.id, **judgement.toDict(), **usage_fields(usage, started)}
