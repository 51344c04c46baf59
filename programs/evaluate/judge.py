"""Judging what programs wrote: each program's answers by the rubric, R2P's against the chain of thought's in pairs."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from metrics.judge import JudgeError, Pairwise, Rubric
from programs.evaluate import report
from programs.evaluate.runner import Progress, collect, spent
from programs.runs.directory import Run
from programs.tasks.task import Task
from r2p_dspy import BM25, connect
from r2p_dspy.errors import ConfigError

_AGAINST = "cot"
_COMPARED = ("r2p", "compiled")


def connected(task: Task, model: str | None, api_base: str | None, seed: int) -> dspy.LM | None:
    """The judge that was asked for, if one was.

    Raises:
        ValueError: for a task whose answers are labels, and as `connect`.
    """
    if model is None:
        return None
    if task.labels:
        raise ConfigError(f"--judge is for free text; what is right in {task.name}, its metrics say")
    return connect(model, api_base=api_base, seed=seed)


def judge(
    task: Task,
    examples: Sequence[dspy.Example],
    answers: Mapping[str, Sequence[Mapping[str, Any]]],
    lm: dspy.LM,
    run: Run,
    threads: int,
    start: Callable[[str, int, int], Progress],
) -> dict[str, Any]:
    """Let a language model judge what programs answered to a task of free text.

    Args:
        task: the task.
        examples: what the programs were run on.
        answers: the rows of `measure`, by program.
        lm: the judge.
        run: where its judgements go, one row each, and earlier ones are found: `judge:r2p`, `judge:r2p:cot`.
        threads: calls in flight.
        start: is told of each program; see `Reporter.start`.

    Returns:
        The judge's part of the report; see `report.judged`.

    Raises:
        JudgeError: at the judge's first failure, saying at which example.
    """
    retriever = BM25(text=task.fields)
    rubric, pairwise = Rubric(retriever=retriever), Pairwise(retriever=retriever)
    golds = [{"id": example.id, "answer": example[task.answer]} for example in examples]

    def judged(module: dspy.Module, name: str, ours: Any, theirs: Any) -> list[dict[str, Any]]:
        mine, others = ({row["id"]: row["answer"] for row in rows} for rows in (ours, theirs))
        rows = run.rows(f"judge:{name}")
        tick = start(f"judge:{name}", len(examples), len({row["id"] for row in rows}))

        def ask(example: dspy.Example) -> dict[str, Any]:
            try:
                return _row(module, task, example, mine[example.id], others[example.id])
            except JudgeError as error:
                raise JudgeError(f"{name}, example {example.id}: {error}; mend it, then go on with --resume") from error

        return collect(ask, examples, rows, threads, tick)

    with dspy.context(lm=lm.copy(cache=False)):
        rated = {name: judged(rubric, name, rows, golds) for name, rows in answers.items()}
        compared = {
            (name, _AGAINST): judged(pairwise, f"{name}:{_AGAINST}", answers[name], answers[_AGAINST])
            for name in _COMPARED
            if name in answers and _AGAINST in answers
        }
    return report.judged(rated, compared, report.users([{"user": example.get("user")} for example in examples]), lm)


def _row(module: dspy.Module, task: Task, example: dspy.Example, answer: Any, against: Any) -> dict[str, Any]:
    started = time.monotonic()
    with dspy.track_usage() as usage, dspy.context(disable_history=True):
        found = module(profile=example[task.profile], request=example[task.question], answer=answer, against=against)
    return {"id": example.id, **found.toDict(), **spent(usage, started)}
