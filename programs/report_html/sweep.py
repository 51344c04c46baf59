"""The index of a sweep: each task's table and chart, with a link to the page of every cell."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from programs.report_html.charts import Chart, Point, plane_chart
from programs.report_html.figures import direction, kind_of, limits
from programs.report_html.tables import NONE, Cell, Table, interval

Result = Mapping[str, Any]
_KINDS = {
    "r2p": "R2P",
    "compiled": "R2P, compiled",
    "plain": "plain prediction and chain of thought",
    "control": "R2P without this user's history",
}


@dataclass(frozen=True)
class Link:
    """A cell's page."""

    name: str
    href: str


def sweep_tasks(report: Result) -> list[dict[str, Any]]:
    """What the index shows of each task of a sweep."""
    return [
        {
            "name": name,
            "facts": {key: task[key] for key in ("data", "split", "examples") if task.get(key) is not None},
            "notes": task.get("warnings", []),
            "results": _results(task, report["ks"]),
            "baselines": task["baselines"],
            "metric": task["metric"],
            "figures": _figures(task),
            "links": [*_links(task)],
        }
        for name, task in report["tasks"].items()
    ]


def _links(task: Result) -> Iterator[Link]:
    for cell in task["cells"]:
        yield Link(f"{cell['model']}, k = {cell['k']}", f"{cell['directory']}/report.html")


def _results(task: Result, ks: Sequence[int]) -> Table:
    rows = []
    cells = {(cell["model"], cell["k"]): cell["programs"] for cell in task["cells"]}
    models = list(dict.fromkeys(cell["model"] for cell in task["cells"]))
    for model in models:
        for program in dict.fromkeys(name for k in ks for name in cells.get((model, k), {})):
            entries = [cells.get((model, k), {}).get(program) for k in ks]
            values = [Cell(NONE) if entry is None else interval(entry["metrics"][task["metric"]]) for entry in entries]
            rows.append([Cell(f"{model} {program}"), *values])
    return Table(f"{direction(task['metric'])}; 95 % intervals", ["model and program", *(f"k = {k}" for k in ks)], rows)


def _figures(task: Result) -> list[Chart]:
    """The first metric against tokens: a line through the k of each model and program."""
    lines: dict[tuple[str, str], list[tuple[float, Mapping[str, float], int]]] = {}
    for cell in task["cells"]:
        for program, entry in cell["programs"].items():
            value = entry["metrics"][task["metric"]]
            lines.setdefault((cell["model"], program), []).append((entry["tokens_per_answer"], value, cell["k"]))
    points = [
        Point(f"{model} {program}, k = {k}", value["value"], value["low"], value["high"], kind_of(program), tokens)
        for (model, program), of_line in lines.items()
        for tokens, value, k in of_line
    ]
    if not points or not any(point.x for point in points):
        return []
    paths = [
        (f"{model} {program}", kind_of(program), [(tokens, value["value"]) for tokens, value, _ in of_line], False)
        for (model, program), of_line in lines.items()
        if len(of_line) > 1
    ]
    chart = plane_chart(
        f"{task['metric']} against tokens",
        direction(task["metric"]),
        "completion tokens per answer, discarded ones too",
        points,
        _KINDS,
        limits(task["metric"]),
        lines=paths,
    )
    return [chart]
