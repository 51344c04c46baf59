"""`report.json`: what an experiment found, computed from the rows of its programs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dspy

from metrics.intervals import Interval, of_differences, of_metric, of_user_means
from metrics.lamp import METRICS
from programs.calls.prices import cost
from programs.calls.usage import latency
from programs.data.dataset import Data
from programs.evaluate.ablation import FULL, TEMPLATE
from programs.evaluate.baselines import VOTE, floors
from programs.evaluate.runner import MALFORMED, is_scored, total
from programs.runs.cautions import cautions
from programs.runs.model import ModelConfig, lm_settings
from programs.runs.provenance import measured_on
from programs.tasks.program import R2PConfig
from programs.tasks.task import Task
from r2p_dspy import __version__
from r2p_dspy.values.typed import as_text

BASES = ("cot", "predict", "r2p")  # every report compares the other programs with these

Row = Mapping[str, Any]  # a `runner.ResultRow`, or one that an earlier version wrote


def build_report(
    command: str,
    task: Task,
    data: Data,
    rows: Mapping[str, Sequence[Row]],
    *,
    model: ModelConfig,
    lm: dspy.LM,
    settings: R2PConfig,
    retriever_tokens: int | None,
    seconds: float,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """The contents of `report.json`, from the rows of each program on `data.test`.

    The keys up to `differences` are the same for every run; a value is None where it does not apply. `differences` has
    the bases "cot", "predict" and "r2p", in an ablation also the template alone and the template with intervention.
    `floors` has the trivial baselines in each metric, and each program's `baselines` those in the first. What tells the
    data from other data is said by `measured_on`.
    """
    lowest = floors(task, data.test, data.train)
    baselines = lowest[task.metrics[0]]
    return {
        "version": __version__,
        "command": command,
        "task": task.name,
        "split": data.split,
        "data": data.source,
        "model": model.name,
        "lm": lm.model,
        "retriever": settings.retriever,
        "k": settings.k,
        "temperature": model.used_temperature,
        "constrain": settings.constrain,
        "seed": model.seed,
        "examples": len(data.test),
        "seconds": round(seconds, 1),
        "programs": {name: entry(task, results, baselines, lm) for name, results in rows.items()},
        "differences": all_differences(task, rows),
        "floors": lowest,
        "lm_settings": lm_settings(lm, model.adapter),
        "retriever_tokens": retriever_tokens,
        "shared_users": data.shared_users,
        "skipped": data.skipped,
        **measured_on(data, task),
        "warnings": cautions(task, [as_text(example[task.gold]) for example in data.test], model.name, data.source),
        **extra,
    }


def entry(task: Task, rows: Sequence[Row], baselines: Mapping[str, float], lm: dspy.LM) -> dict[str, Any]:
    """One program's part of the report.

    Args:
        task: whose metrics are computed.
        rows: the program's rows, at least one; see `runner.measure`.
        baselines: what the trivial baselines reach in the task's first metric.
        lm: the model that was called; its name gives the price of a token.

    Returns:
        - `metrics`: each with its 95 % bootstrap interval over users (over examples where users are unknown);
        - `users`, `per_user`: only where users have several examples: the mean of the users' own means;
        - `baselines`: as given;
        - `compliance`, `evidence_validity` and the same with `_first`: shares in [0, 1] of the final and the first
          attempts; None for a program without a template or without evidence;
        - `parse_failures`: unanswered rows by `Cause` of `r2p_dspy.prompting.causes`; they score as no answer;
        - `failed_rows`: rows with a failed call, by `Cause` of `programs.calls.failures`. Those whose server failed are
          left out of everything but the sums of `calls`, `tokens` and `seconds`;
        - `violations`, `violations_first`: counts by check;
        - `calls`, `tokens`, `seconds`: sums over the examples. A call that the cache answered counts as it did when it
          was made;
        - `forward_passes`: of the model, summed over the calls; None unless all ran on an engine that counts them;
        - `tokens_per_answer`, `tokens_per_compliant`: completion tokens per example, and per compliant example;
        - `seconds_per_answer`: mean seconds per example; `latency`: mean and 95th percentile of a call;
        - `cost_usd`: 0 for a local model, None where the price is unknown; `cost_per_correct`: per exact label, None
          for free text and where no answer is correct; `per_correct`: the same of all tokens, forward passes and
          seconds.
    """
    used, failed_rows = usage(rows, lm), failures(rows)
    tokens, cost_usd = used["tokens"], used["cost_usd"]
    rows = scored(rows)
    compliant, correct = sum(row["compliant"] is True for row in rows), _correct(task, rows)
    return {
        "metrics": metrics(task, rows),
        **_per_user(task, rows),
        "baselines": dict(baselines),
        "compliance_first": _share(rows, "compliant_first"),
        "compliance": _share(rows, "compliant"),
        "evidence_validity_first": _share(rows, "evidence_first"),
        "evidence_validity": _share(rows, "evidence"),
        "parse_failures": _count(
            MALFORMED if cause is True else cause  # rows of earlier versions only tell that there is one
            for row in rows
            if (cause := row["parse_failure"])
        ),
        "failed_rows": failed_rows,
        "violations": _count(check for row in rows for check in row["violations"]),
        "violations_first": _count(check for row in rows for check in row["violations_first"]),
        "interventions": sum(row["interventions"] for row in rows),
        **used,
        "tokens_per_answer": round(tokens["completion"] / len(rows), 1),
        "tokens_per_compliant": round(tokens["completion"] / compliant, 1) if compliant else None,
        "seconds_per_answer": round(sum(row["seconds"] for row in rows) / len(rows), 4),
        "cost_per_correct": None if cost_usd is None or not correct else round(cost_usd / correct, 6),
        "per_correct": _per_correct(used, correct),
    }


def metrics(task: Task, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """The task's metrics of one program's rows, each with its 95 % interval; see `scored`."""
    rows = scored(rows)
    answers, golds = list(map(answer_of, rows)), _column(rows, "gold")
    return {
        name: of_metric(task.metric(name), answers, golds, task.labels, users=users(rows)).rounded()
        for name in task.metrics
    }


def failures(rows: Iterable[Row]) -> dict[str, int]:
    """How many rows failed, by cause."""
    return _count(row["failed"] for row in rows if row.get("failed"))


def scored(rows: Sequence[Row]) -> list[Row]:
    """The rows that count in metrics: all but those whose server failed."""
    return [row for row in rows if is_scored(row)]


def differences(task: Task, rows: Mapping[str, Sequence[Row]], base: str) -> dict[str, dict[str, float]]:
    """How much each program exceeds the program `base` in the task's first metric, paired by example.

    A pair is compared on the rows that count for both of its programs, see `scored`.
    """
    by_program = _differences(task, rows, task.metrics[0], [base])[base]
    return {name: difference.rounded() for name, difference in by_program.items()}


def all_differences(task: Task, rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """How much each program exceeds each base in each of the task's metrics; None for one of `BASES` without rows."""
    bases = [base for base in (*BASES, VOTE, TEMPLATE, FULL) if base in rows]
    by_metric = {name: _differences(task, rows, name, bases) for name in task.metrics} if bases else {}
    return dict.fromkeys(BASES) | {
        base: {
            program: {name: by_metric[name][base][program].rounded() for name in task.metrics}
            for program in rows
            if program != base
        }
        for base in bases
    }


def users(rows: Sequence[Row]) -> list[str] | None:
    """The user of each row; None unless every row has one."""
    owners = _column(rows, "user")
    return None if None in owners else owners


def usage(rows: Sequence[Row], lm: dspy.LM) -> dict[str, Any]:
    """Sum up what rows took, see `runner.usage_fields`. What does not apply is None: a price, a call's latency."""
    tokens = {kind: sum(row[f"{kind}_tokens"] for row in rows) for kind in ("prompt", "completion")}
    dollars = cost(lm.model, tokens)
    return {
        "calls": sum(row["calls"] for row in rows),
        "tokens": tokens,
        "forward_passes": total(row.get("forward_passes") for row in rows if row["calls"]),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "latency": latency([seconds for row in rows for seconds in row.get("latency", ())]),
        "cost_usd": None if dollars is None else round(dollars, 6),
    }


def answer_of(row: Row) -> Any:
    """A row's answer; the empty text where there is none, or none that can be read, since None may be an answer."""
    return "" if row["parse_failure"] or row.get("failed") else row["answer"]


def _column(rows: Sequence[Row], name: str) -> list[Any]:
    return [row.get(name) for row in rows]


def _differences(
    task: Task, rows: Mapping[str, Sequence[Row]], metric: str, bases: Sequence[str]
) -> dict[str, dict[str, Interval]]:
    by_base: dict[str, dict[str, Interval]] = {base: {} for base in bases}
    for left_out, pairs in _pairs(rows, bases).items():
        names = dict.fromkeys(name for pair in pairs for name in pair)
        common = {name: [row for row in rows[name] if row["id"] not in left_out] for name in names}
        answers = {name: list(map(answer_of, results)) for name, results in common.items()}
        first = next(iter(common.values()))
        if not first:  # no example was answered by both
            continue
        wanted = dict.fromkeys(base for base, _ in pairs)
        compared = of_differences(
            task.metric(metric), answers, _column(first, "gold"), task.labels, wanted, users=users(first)
        )
        for base, name in pairs:
            by_base[base][name] = compared[base][name]
    return by_base


def _pairs(rows: Mapping[str, Sequence[Row]], bases: Sequence[str]) -> dict[frozenset[Any], list[tuple[str, str]]]:
    """The pairs of a base and a program, by the ids of the rows that do not count for one of the two."""
    missing = {name: frozenset(row["id"] for row in results if not is_scored(row)) for name, results in rows.items()}
    pairs: dict[frozenset[Any], list[tuple[str, str]]] = {}
    for base in bases:
        for name in rows:
            if name != base:
                pairs.setdefault(missing[base] | missing[name], []).append((base, name))
    return pairs


def _per_user(task: Task, rows: Sequence[Row]) -> dict[str, Any]:
    owners = users(rows)
    if owners is None or len(set(owners)) == len(owners):
        return {}
    means = {}
    for metric in filter(lambda metric: metric.is_mean, map(task.metric, task.metrics)):
        values = [metric.example(answer_of(row), row["gold"], task.labels) for row in rows]
        means[metric.name] = of_user_means(values, owners).rounded()
    return {"users": len(set(owners)), "per_user": means}


def _share(rows: Sequence[Row], key: str) -> float | None:
    applies = [row[key] for row in rows if row[key] is not None]
    return round(sum(applies) / len(applies), 4) if applies else None


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names))


def _per_correct(used: Mapping[str, Any], correct: float) -> dict[str, float | None] | None:
    if not correct:
        return None
    passes = used["forward_passes"]
    return {
        "tokens": round(sum(used["tokens"].values()) / correct, 1),
        "forward_passes": None if passes is None else round(passes / correct, 1),
        "seconds": round(used["seconds"] / correct, 4),
    }


def _correct(task: Task, rows: Sequence[Row]) -> float:
    """How many answers are the exact label; 0 for free text."""
    exact = METRICS["accuracy"].example
    return sum(exact(answer_of(row), row["gold"], task.labels) for row in rows) if task.labels else 0
