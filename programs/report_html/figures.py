"""Which charts a report has, from its numbers."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from metrics.lamp import METRICS
from programs.report_html.charts import Chart, Point, plane_chart, rows_chart, steps

Report = Mapping[str, Any]
SHARE, ANY = (0.0, 1.0), (-math.inf, math.inf)  # limits of an axis
_KINDS = {
    "r2p": "R2P",
    "compiled": "R2P, compiled or trained",
    "plain": "plain prediction and other modules",
    "control": "R2P without this user's history",
    "baseline": "trivial baseline, without a model",
}
_TRIALS = {"start": "start", "winner": "winner", "frontier": "on the frontier", "trial": "other trial"}


def figures(report: Report) -> Iterator[Chart]:
    """The charts of one task's report: quality, quality against cost, differences to one program, tuning."""
    programs = report["programs"]
    if not programs:
        return
    metric = next(iter(next(iter(programs.values()))["metrics"]))
    yield _quality(report, metric)
    tokens = {name: entry["tokens_per_answer"] for name, entry in programs.items()}
    if len(programs) > 1 and any(tokens.values()):
        points = [_point(name, entry["metrics"][metric], tokens[name]) for name, entry in programs.items()]
        x_note = "completion tokens per answer, discarded ones too"
        title = f"{metric} against tokens"
        yield plane_chart(title, direction(metric), x_note, points, _KINDS, limits(metric))
    yield from _differences(report, metric)[:1]
    if report.get("tuning", {}).get("trials"):
        yield _tuning(report["tuning"])


def more_figures(report: Report) -> list[Chart]:
    """The differences to other programs."""
    programs = report["programs"]
    return _differences(report, next(iter(next(iter(programs.values()))["metrics"])))[1:] if programs else []


def direction(metric: str) -> str:
    """A metric and which direction is better, in words."""
    if metric not in METRICS:
        return metric
    return f"{metric}, {'higher' if METRICS[metric].higher_is_better else 'lower'} is better"


def limits(metric: str) -> tuple[float, float]:
    """Between which values a metric lies."""
    return (0.0, math.inf) if metric in ("mae", "rmse") else SHARE


def kind_of(program: str) -> str:
    """What a program is, for its colour and shape."""
    if program in ("r2p:no_profile", "r2p:other_user", "r2p:random_items"):
        return "control"
    if program in ("compiled", "tuned") or program.startswith("student:"):
        return "compiled"
    return "r2p" if program.split(":")[0] in ("r2p", "student", "teacher") else "plain"


def _quality(report: Report, metric: str) -> Chart:
    programs = report["programs"]
    points = [_point(name, entry["metrics"][metric]) for name, entry in programs.items()]
    baselines = next(iter(programs.values()))["baselines"]
    points += [Point(name, value, value, value, "baseline") for name, value in baselines.items()]
    return rows_chart(f"{metric} by program", f"{direction(metric)}; 95 % intervals", points, _KINDS, limits(metric))


def _differences(report: Report, metric: str) -> list[Chart]:
    charts = []
    for base, by_program in (report.get("differences") or _gains(report)).items():
        points = [_point(name, values[metric]) for name, values in (by_program or {}).items() if metric in values]
        if points:
            note = f"paired difference in {direction(metric)}; 95 % intervals"
            within = (-1.0, 1.0) if limits(metric) == SHARE else ANY
            charts.append(rows_chart(f"Difference to {base}", note, points, _KINDS, within, zero=0.0))
    return charts


def _gains(report: Report) -> Mapping[str, Any]:
    """The differences of a fine-tuned student to its untrained self."""
    return {"student": report["to_student"]} if report.get("to_student") else {}


def _tuning(tuning: Report) -> Chart:
    trials = tuning["trials"]
    named = {tuning["winner"]: "winner", tuning["start"]: "start"}
    if tuning["winner"] == tuning["start"]:
        named = {tuning["winner"]: "winner"}
    points = []
    for number, trial in enumerate(trials):
        setting, score = trial["setting"], trial["score"]
        kind = named.get(setting, "frontier" if "completion" in trial["frontier"] else "trial")
        is_named = setting in named
        low, high = (score["low"], score["high"]) if is_named else (score["value"], score["value"])
        name = f"{kind}: trial {number}" if is_named else f"trial {number}" if kind == "frontier" else ""
        points.append(Point(name, score["value"], low, high, kind, trial["tokens"]["completion"]))
    edge = [
        (trial["tokens"]["completion"], trial["score"]["value"])
        for trial in trials
        if "completion" in trial["frontier"]
    ]
    lines = [("frontier", "frontier", [*steps(edge)], False)] if len(edge) > 1 else []
    title, note = "Tuning on dev", "composite score, higher is better"
    return plane_chart(title, note, "completion tokens per answer", points, _TRIALS, SHARE, lines=lines)


def _point(name: str, interval: Mapping[str, float], x: float = 0.0) -> Point:
    return Point(name, interval["value"], interval["low"], interval["high"], kind_of(name), x)
