"""Judge free text with a language model: each program by the rubric, R2P against chain of thought in pairs."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

from metrics.intervals import of_mean
from metrics.judge import JudgeError, Pairwise, Rubric, first_place
from programs.calls.failures import failure_of
from programs.calls.patience import MAX_FAILURES
from programs.evaluate import report
from programs.evaluate.runner import MALFORMED, Progress, collect, finished, usage_fields
from programs.runs.directory import Run
from programs.runs.model import ModelConfig
from programs.tasks.task import Task
from r2p_dspy import BM25, AssertionFailed, connect
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
    max_failures: float = MAX_FAILURES,
    redact: bool = False,
) -> tuple[dict[str, Any], dict[str, list[Row]]]:
    """Let a language model judge the programs' answers to a free-text task.

    Judgements are kept in the run as the rows `judge:r2p` of the rubric and `judge:r2p:cot` of a comparison. Where the
    judge fails, or no text is known because the program's row failed, there is none. More failures of the judge than
    the share `max_failures` raise RunError. With `redact`, rows have no reasons, which quote the user.

    Returns:
        The report's `judge`, and the judgements. `programs` has each program's mean score, `pairwise` how often the
        first of two programs won (a tie is half a win), both with 95 % intervals. `ties` is the share of ties,
        `first_place` how often the text that stood first was preferred (None if the judge was never asked).
        `failed_rows` counts what could not be judged, by cause. The cost is the judge's alone.
    """
    retriever = BM25(text=task.fields, tokenize=task.tokenize or str.split)
    rubric, pairwise = Rubric(retriever=retriever), Pairwise(retriever=retriever)
    golds = [{"id": example.id, "answer": example[task.answer]} for example in examples]

    def judged(module: dspy.Module, name: str, rows: Sequence[Row], against: Sequence[Row]) -> list[Row]:
        ours, theirs = ({row["id"]: row["answer"] for row in report.scored(some)} for some in (rows, against))
        judgements, known = run.rows(f"judge:{name}"), ours.keys() & theirs
        both = [example for example in examples if example.id in known]
        tick = start(f"judge:{name}", len(both), len(finished(judgements)))

        def ask(example: dspy.Example) -> Row:
            try:
                row = _row(module, task, example, ours[example.id], theirs[example.id])
            except JudgeError as error:
                raise JudgeError(f"{name}, example {example.id}: {error}; check --judge, then --resume") from error
            return _without_reasons(row) if redact else row

        return collect(ask, both, judgements, threads, tick, max_failures)

    with dspy.context(lm=lm.copy(cache=False)):
        rated: dict[str, list[Row]] = {name: judged(rubric, name, rows, golds) for name, rows in answers.items()}
        compared: dict[str, list[Row]] = {
            name: judged(pairwise, f"{name}:{_BASE}", answers[name], answers[_BASE])
            for name in _COMPARED
            if name in answers and _BASE in answers
        }
    user_of = {example.id: example.get("user") for example in examples}
    everything = {f"judge:{name}": rows for name, rows in rated.items()}
    everything |= {f"judge:{name}:{_BASE}": rows for name, rows in compared.items()}
    judgements = [row for rows in everything.values() for row in rows]

    def mean(rows: Sequence[Row]) -> dict[str, float]:
        users = report.users([{"user": user_of[row["id"]]} for row in rows])
        return of_mean([row["score"] for row in rows], users=users).rounded()

    rated, compared = ({name: _judged(rows) for name, rows in some.items()} for some in (rated, compared))
    summary = {
        "lm": lm.model,
        "programs": {name: mean(rows) for name, rows in rated.items()},
        "pairwise": {f"{name} against {_BASE}": {**mean(rows), **_ties(rows)} for name, rows in compared.items()},
        "failed_rows": dict(Counter(row["failed"] for row in judgements if row.get("failed"))),
        **report.usage(judgements, lm),
    }
    return summary, everything


def _judged(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if not row.get("failed")]


def _ties(rows: Sequence[Row]) -> dict[str, float | None]:
    """The share of ties, and how often the text that stood first was preferred."""
    return {
        "ties": round(sum(row["score"] == 0.5 for row in rows) / len(rows), 4),
        "first_place": first_place([first for row in rows for first in row["firsts"]]),
    }


def _row(module: dspy.Module, task: Task, example: dspy.Example, answer: Any, against: Any) -> dict[str, Any]:
    started = time.monotonic()
    with dspy.track_usage() as usage, dspy.context(disable_history=True):
        try:
            judgement = module(
                profile=example[task.profile], request=example[task.question], answer=answer, against=against
            ).toDict()
        except JudgeError as error:
            judgement = _failure(error)
    return {"id": example.id, "user": example.get("user"), **judgement, **usage_fields(usage, started)}


def _without_reasons(row: Row) -> dict[str, Any]:
    """A judgement without the judge's words."""
    words: dict[str, Any] = {}
    if "ratings" in row:
        words["ratings"] = {criterion: {**rating, "reason": ""} for criterion, rating in row["ratings"].items()}
    if "error" in row:
        words["error"] = None
    return {name: value for name, value in row.items() if name != "reasons"} | words


def _failure(error: JudgeError) -> dict[str, str]:
    """The entries of a judgement that failed, or whose answer cannot be read; raises what every row would meet."""
    if isinstance(error.__cause__, AssertionFailed):
        why = error.__cause__.prediction.details.unreadable
        return {"failed": why.cause if why else MALFORMED, "error": str(error)}
    failure = failure_of(error.__cause__ or error)
    if failure is None or failure.scope == "run":
        raise error
    return {"failed": failure.cause, "error": failure.reason}
