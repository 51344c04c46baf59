"""Judge free text with a language model: by a rubric, R2P against chain of thought in pairs, with a second judge."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from metrics.agreement import agreement
from metrics.aspect_judge import AspectJudge
from metrics.intervals import of_mean
from metrics.judge import JudgeError, Pairwise, Rubric, first_place
from metrics.trivial_baselines import most_similar
from programs.calls.failures import failure_of
from programs.calls.patience import MAX_FAILURES
from programs.evaluate import report
from programs.evaluate.runner import MALFORMED, Progress, collect, finished, usage_fields
from programs.runs.directory import Run
from programs.runs.model import ModelConfig
from programs.tasks.task import Task
from r2p_dspy import BM25, AssertionFailed, connect
from r2p_dspy.errors import ConfigError
from r2p_dspy.values.typed import plain

_BASE = "cot"
_COMPARED = ("r2p", "compiled")

Row = Mapping[str, Any]


def connected(task: Task, judge: ModelConfig | None) -> dspy.LM | None:
    """Connect to the judge, if there is one; refuses a task whose answers are labels."""
    if judge is None:
        return None
    if task.labels:
        raise ConfigError(f"--judge is for free text; {task.name} has labels, which its metrics score; leave it out")
    given: dict[str, Any] = {} if judge.timeout is None else {"timeout": judge.timeout}
    return connect(judge.name, api_base=judge.api_base, seed=judge.seed, **given)


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
    second: dspy.LM | None = None,
) -> tuple[dict[str, Any], dict[str, list[Row]]]:
    """Let a language model judge the programs' answers to a free-text task.

    A task with rubrics is judged by their aspects, as LaMP-QA is; any other against the user's own text, and R2P
    against chain of thought in pairs. Judgements are kept in the run as the rows `judge:r2p`, `judge:r2p:cot` of a
    comparison, and `judge2:r2p` of a second judge. Where the judge fails, or no text is known because the program's row
    failed, there is none. More failures of a judge than the share `max_failures` raise RunError. With `redact`, rows
    have no reasons, which quote the user.

    Returns:
        The report's `judge`, and the judgements. `programs` has each program's mean score, `pairwise` how often the
        first of two programs won (a tie is half a win), both with 95 % intervals; `baselines`, with rubrics, what the
        trivial baselines get. `ties` is the share of ties, `first_place` how often the text that stood first was
        preferred (None if the judge was never asked). `failed_rows` counts what could not be judged, by cause. The cost
        is the judge's alone. With a second judge, `second` is the same of it, without pairs, and `agreement` compares
        their verdicts on all programs: see `metrics.agreement`.
    """
    panel = _Panel(task, examples, run, threads, start, max_failures, redact)
    summary, judgements = panel.judge(answers, lm, "judge")
    if second is not None:
        other, others = panel.judge(answers, second, "judge2", alone=True)
        summary |= {"second": other, "agreement": panel.agreement(answers, judgements, others)}
        judgements |= others
    return summary, judgements


@dataclass(frozen=True)
class _Panel:
    """What judges of one evaluation share; the fields are the arguments of `judge`."""

    task: Task
    examples: Sequence[dspy.Example]
    run: Run
    threads: int
    start: Callable[[str, int, int], Progress]
    max_failures: float
    redact: bool

    def judge(
        self, answers: Mapping[str, Sequence[Row]], lm: dspy.LM, prefix: str, alone: bool = False
    ) -> tuple[dict[str, Any], dict[str, list[Row]]]:
        """One judge's part of the report, and its judgements; `alone` leaves out pairs and baselines."""
        task, golds = self.task, [{"id": example.id, "answer": example[self.task.gold]} for example in self.examples]
        retriever = BM25(text=task.fields, tokenize=task.tokenize or str.split)
        rate: dspy.Module = AspectJudge() if task.by_rubric else Rubric(retriever=retriever)
        pairs = [name for name in _COMPARED if name in answers and _BASE in answers]
        floors = {} if alone or not task.by_rubric else self._floors()
        with dspy.context(lm=lm.copy(cache=False)):
            rated = {name: self._judged(rate, f"{prefix}:{name}", rows, golds) for name, rows in answers.items()}
            compared: dict[str, list[Row]] = {
                name: self._judged(
                    Pairwise(retriever=retriever), f"{prefix}:{name}:{_BASE}", answers[name], answers[_BASE]
                )
                for name in ([] if alone or task.by_rubric else pairs)
            }
            lowest = {name: self._judged(rate, f"{prefix}:baseline:{name}", floors[name], golds) for name in floors}
        everything = {f"{prefix}:{name}": rows for name, rows in rated.items()}
        everything |= {f"{prefix}:{name}:{_BASE}": rows for name, rows in compared.items()}
        everything |= {f"{prefix}:baseline:{name}": rows for name, rows in lowest.items()}
        judgements = [row for rows in everything.values() for row in rows]
        rated, compared, lowest = ({name: _judged(of[name]) for name in of} for of in (rated, compared, lowest))
        summary = {
            "lm": lm.model,
            "programs": {name: self._mean(rows) for name, rows in rated.items()},
            "pairwise": {
                f"{name} against {_BASE}": {**self._mean(rows), **_ties(rows)} for name, rows in compared.items()
            },
            **({"baselines": {name: self._mean(rows)["value"] for name, rows in lowest.items()}} if lowest else {}),
            "failed_rows": dict(Counter(row["failed"] for row in judgements if row.get("failed"))),
            **report.usage(judgements, lm),
        }
        return summary, everything

    def agreement(
        self, names: Iterable[str], ours: Mapping[str, list[Row]], theirs: Mapping[str, list[Row]]
    ) -> dict[str, Any]:
        """How far two judges agree on what both of them judged."""
        pairs: list[tuple[int, int, Any]] = []
        for name in names:
            others = {row["id"]: row for row in _judged(theirs[f"judge2:{name}"])}
            for row in _judged(ours[f"judge:{name}"]):
                if (other := others.get(row["id"])) is not None:
                    user = row["user"] or row["id"]
                    pairs += [(one, two, user) for one, two in zip(_verdicts(row), _verdicts(other), strict=True)]
        if not pairs:  # neither judged what the other did
            return {"exact": None, "difference": None, "kappa": None, "verdicts": 0}
        first, second, users = zip(*pairs, strict=True)
        result = agreement(first, second, users=users)
        kappa = None if result.kappa is None else round(result.kappa, 4)
        intervals = {"exact": result.exact.rounded(), "difference": result.difference.rounded()}
        return {**intervals, "kappa": kappa, "verdicts": result.verdicts}

    def _floors(self) -> dict[str, list[Row]]:
        """The trivial baselines' answers: the question itself, and the item that BM25 ranks first."""
        task = self.task
        texts: dict[str, Callable[[dspy.Example], str | None]] = {
            "most_similar": lambda example: most_similar(
                task.query_text(dict(example.inputs())),
                example[task.profile],
                lambda item: item.fields[task.written],
                task.searched,
                task.tokenize,
            ),
            "input": lambda example: example[task.question],
        }
        return {
            name: [{"id": example.id, "answer": text(example)} for example in self.examples]
            for name, text in texts.items()
        }

    def _judged(self, module: dspy.Module, name: str, rows: Sequence[Row], against: Sequence[Row]) -> list[Row]:
        ours, theirs = ({row["id"]: row["answer"] for row in report.scored(some)} for some in (rows, against))
        judgements, known = self.run.rows(name), ours.keys() & theirs
        both = [example for example in self.examples if example.id in known]
        tick = self.start(name, len(both), len(finished(judgements)))

        def ask(example: dspy.Example) -> Row:
            try:
                row = _row(module, self.task, example, ours[example.id], theirs[example.id])
            except JudgeError as error:
                where = name.partition(":")[2]
                raise JudgeError(f"{where}, example {example.id}: {error}; check --judge, then --resume") from error
            return _without_reasons(row) if self.redact else row

        return collect(ask, both, judgements, self.threads, tick, self.max_failures)

    def _mean(self, rows: Sequence[Row]) -> dict[str, float]:
        user_of = {example.id: example.get("user") for example in self.examples}
        users = report.users([{"user": user_of[row["id"]]} for row in rows])
        return of_mean([row["score"] for row in rows], users=users).rounded()


def _verdicts(row: Row) -> list[int]:
    """A judgement's verdicts, in the order of the aspects or the criteria."""
    ratings = (plain(rating) for rating in row.get("ratings", {}).values())
    return row["points"] if "points" in row else [rating["score"] for rating in ratings]


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
            if task.by_rubric:
                judgement = module(question=example[task.question], answer=answer, rubric=against).toDict()
            else:
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
