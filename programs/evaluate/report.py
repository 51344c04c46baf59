"""From rows to a report: every metric with its interval and floors, compliance, evidence, and what it cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from metrics.intervals import Interval, of_difference, of_mean, of_metric, of_user_means
from metrics.judge import first_place
from metrics.lamp import METRICS
from metrics.trivial_baselines import trivial_baselines
from programs.calls.prices import cost
from programs.calls.usage import latency
from programs.tasks.task import Task

Row = Mapping[str, Any]


def entry(task: Task, rows: Sequence[Row], floors: Mapping[str, float], lm: dspy.LM) -> dict[str, Any]:
    """One program's part of the report.

    Args:
        task: whose metrics to compute.
        rows: of `measure`, at least one.
        floors: of the task's first metric, by name.
        lm: what was called, for the price of a token; local models cost nothing.

    Returns:
        metrics with 95 % intervals (of users, where it is known whose each example is), the same as means of the users'
        own means (`per_user`, where users have several examples and the metric is a mean), floors, compliance (final
        and first attempt) and evidence validity (likewise) as shares in [0, 1] or None where they do not apply, counts
        of parse failures and violations, calls, tokens, completion tokens for each compliant answer (None where there
        is no template), seconds that the examples took in sum, the mean and the 95th percentile of those that a call
        took (None where nothing was called), and US dollars (None where the price is not known). What was answered from
        the ledger counts as it did when it was paid for.
    """
    tokens = {kind: sum(row[f"{kind}_tokens"] for row in rows) for kind in ("prompt", "completion")}
    return {
        "metrics": metrics(task, rows),
        **_per_user(task, rows),
        "floors": dict(floors),
        "compliance": _share(rows, "compliant"),
        "compliance_first": _share(rows, "compliant_first"),
        "evidence_validity": _share(rows, "evidence"),
        "evidence_validity_first": _share(rows, "evidence_first"),
        "parse_failures": sum(row["parse_failure"] for row in rows),
        "violations": _violations(rows, "violations"),
        "violations_first": _violations(rows, "violations_first"),
        "interventions": sum(row["interventions"] for row in rows),
        "calls": sum(row["calls"] for row in rows),
        "tokens": tokens,
        "tokens_per_compliant": _per(tokens["completion"], [row["compliant"] for row in rows]),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "latency": latency([one for row in rows for one in row.get("latency", ())]),
        "cost_usd": _usd(lm, tokens),
    }


def metrics(task: Task, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The task's metrics of one program's rows, each with its 95 % interval."""
    return {name: _metric(task, name, rows).rounded() for name in task.metrics}


def differences(task: Task, rows: Mapping[str, Sequence[Row]], to: str) -> dict[str, dict[str, Any]]:
    """How much each program differs from the program `to` in the task's first metric, paired by example."""
    name, base = task.metrics[0], rows[to]
    golds = [row["gold"] for row in base]
    theirs = [row["answer"] for row in base]
    return {
        other: of_difference(METRICS[name], _answers(mine), theirs, golds, task.labels, users=users(base)).rounded()
        for other, mine in rows.items()
        if other != to
    }


def judged(
    rated: Mapping[str, Sequence[Row]], compared: Mapping[tuple[str, str], Sequence[Row]], users: Any, lm: dspy.LM
) -> dict[str, Any]:
    """A judge's part of the report.

    Args:
        rated: of `judging.judge`, for each program the rows of the rubric.
        compared: likewise, for two programs the rows of the comparison.
        users: whose example each row is of, or None.
        lm: the judge.

    Returns:
        The mean score of each program, and how often the first of two programs won (a tie is half a win), with 95 %
        intervals; the share of ties, and how often the text that stood first was preferred (None where nothing had to
        be asked); and what the judge cost, apart from the programs.
    """
    rows = [row for one in (*rated.values(), *compared.values()) for row in one]
    tokens = {kind: sum(row[f"{kind}_tokens"] for row in rows) for kind in ("prompt", "completion")}
    return {
        "lm": lm.model,
        "programs": {name: _mean(one, users) for name, one in rated.items()},
        "pairwise": {
            f"{ours} against {theirs}": {
                **_mean(one, users),
                "ties": round(sum(row["score"] == 0.5 for row in one) / len(one), 4),
                "first_place": first_place([first for row in one for first in row["firsts"]]),
            }
            for (ours, theirs), one in compared.items()
        },
        "calls": sum(row["calls"] for row in rows),
        "tokens": tokens,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "latency": latency([one for row in rows for one in row.get("latency", ())]),
        "cost_usd": _usd(lm, tokens),
    }


def floors(task: Task, examples: Sequence[dspy.Example], train: Sequence[dspy.Example]) -> dict[str, float]:
    """The task's first metric for those who do not think: by the name of what they do."""
    name = task.metrics[0]
    golds = [example[task.answer] for example in examples]
    written = task.answer if task.answer in task.fields else task.fields[0]  # the items' field that is an answer
    found = trivial_baselines(
        [example[task.question] for example in examples],
        [example[task.profile] for example in examples],
        golds,
        [name],
        answer=(lambda item: item.label) if task.labels else (lambda item: item.fields[written]),
        labels=task.labels,
        train=[example[task.answer] for example in train],
        match=task.match or str,
        text=task.searched,
    )
    values = {floor: value[name] for floor, value in found.items()}
    if all("blind" in example for example in examples):
        values["blind_oracle"] = METRICS[name].corpus([example.blind for example in examples], golds, task.labels)
    return values


def _answers(rows: Sequence[Row]) -> list[Any]:
    return [row["answer"] for row in rows]


def _metric(task: Task, name: str, rows: Sequence[Row]) -> Interval:
    return of_metric(METRICS[name], _answers(rows), [row["gold"] for row in rows], task.labels, users=users(rows))


def _per_user(task: Task, rows: Sequence[Row]) -> dict[str, Any]:
    owners = users(rows)
    if owners is None or len(set(owners)) == len(owners):
        return {}
    means = {}
    for metric in (METRICS[name] for name in task.metrics if METRICS[name].is_mean):
        values = [metric.example(row["answer"], row["gold"], task.labels) for row in rows]
        means[metric.name] = of_user_means(values, owners).rounded()
    return {"users": len(set(owners)), "per_user": means}


def users(rows: Sequence[Row]) -> list[str] | None:
    """Whose example each row is of; None where that is not known of every one."""
    owners = [row.get("user") for row in rows]
    return None if None in owners else owners  # type: ignore[return-value]


def _mean(rows: Sequence[Row], users: Any) -> dict[str, float]:
    return of_mean([row["score"] for row in rows], users=users).rounded()


def _share(rows: Sequence[Row], key: str) -> float | None:
    applies = [row[key] for row in rows if row[key] is not None]
    return round(sum(applies) / len(applies), 4) if applies else None


def _per(tokens: int, compliant: Sequence[bool | None]) -> float | None:
    """Generated tokens for each answer that keeps to the template; None where there is no template, or no such one."""
    held = sum(one or False for one in compliant)
    return round(tokens / held, 1) if held else None


def _violations(rows: Sequence[Row], key: str) -> dict[str, int]:
    named = [check for row in rows for check in row[key]]
    return {check: named.count(check) for check in dict.fromkeys(named)}


def _usd(lm: dspy.LM, tokens: Mapping[str, int]) -> float | None:
    found = cost(lm.model, tokens)
    return None if found is None else round(found, 6)
