"""A sweep on the terminal: one table a task, with a column for each k."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from metrics.lamp import METRICS
from programs.evaluate import published
from programs.ui.terminal import output
from programs.ui.terminal import table as new_table


def print_sweep(report: Mapping[str, Any], directory: Path) -> None:
    """The report as one table a task on stdout, and where to find more.

    Args:
        report: of `sweep.run_sweep`.
        directory: of the run.
    """
    out = output()
    for found in report["tasks"].values():
        out.print(_table(found, list(report["models"]), report["ks"]))
        floors = ", ".join(f"{floor} {value:.3f}" for floor, value in found["floors"].items())
        out.print(f"floors ({found['metric']}): {floors}")
        for cell in found["cells"]:
            for program, why in cell.get("not_runnable", {}).items():
                out.print(f"{program} is not runnable with {cell['model']} at k={cell['k']}: {why}", markup=False)
        for line in published.lines(found["published"]):
            out.print(f"published for LaMP at k={published.K}: {line}", markup=False)
    for name, model in report["models"].items():
        if name != model:
            out.print(f"{name} is {model}", soft_wrap=True, markup=False)
    out.print(f"{report['seconds']:.0f} s; everything is in {directory}", soft_wrap=True, markup=False)


def _table(found: Mapping[str, Any], models: Sequence[str], ks: Sequence[int]) -> Table:
    better = "higher" if METRICS[found["metric"]].higher_is_better else "lower"
    metric = f"{found['metric']} ({better} is better; 95 %)"
    title = f"{found['task']} · {found['data']} · {found['examples']} examples · {metric}"
    table = new_table(title=escape(title))
    table.add_column("model", overflow="fold")
    table.add_column("program", overflow="fold")
    for k in ks:
        table.add_column(f"k={k}", justify="right")
    table.add_column("tokens out an example, by k", justify="right")
    cells = {(cell["model"], cell["k"]): cell["programs"] for cell in found["cells"]}
    programs = list(dict.fromkeys(program for of_cell in cells.values() for program in of_cell))

    def add(
        model: str, program: str, found: Sequence[Mapping[str, Any] | None], sign: str = "", last: str = ""
    ) -> None:
        if any(found):
            table.add_row(escape(model), escape(program), *(_value(one, sign) for one in found), last)

    for model in models:
        for program in programs:
            entries = [cells[model, k].get(program) for k in ks]
            spent = [f"{entry['tokens']['completion'] / found['examples']:.0f}" if entry else "–" for entry in entries]
            add(
                model,
                program,
                [entry and entry["metrics"][found["metric"]] for entry in entries],
                "",
                " / ".join(spent),
            )
        table.add_section()
    for model in models[1:]:  # what another model is worth
        for program in programs:
            add(f"{model} − {models[0]}", program, _pairs(found["between_models"], ks, model, program, models[0]), "+")
        table.add_section()
    for model in models:  # what R2P is worth
        for program in programs:
            add(model, f"{program} − cot", _pairs(found["between_programs"], ks, model, program, "cot"), "+")
    return table


def _pairs(
    found: Sequence[Mapping[str, Any]], ks: Sequence[int], model: str, program: str, to: str
) -> list[Mapping[str, Any] | None]:
    """The difference at each k; None where there is none."""
    by_k = {one["k"]: one for one in found if (one["model"], one["program"], one["to"]) == (model, program, to)}
    return [by_k.get(k) for k in ks]


def _value(one: Mapping[str, float] | None, sign: str) -> str:
    if one is None:
        return "–"
    return escape(f"{one['value']:{sign}.3f} [{one['low']:{sign}.3f}, {one['high']:{sign}.3f}]")
