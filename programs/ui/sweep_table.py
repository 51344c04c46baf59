"""A sweep on the terminal: one table per task, with a column for each k."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from metrics.lamp import METRICS
from programs.evaluate import published
from programs.tasks import TASKS
from programs.ui.report_table import failed_in_words, failed_line
from programs.ui.terminal import interval_text, output, print_texts
from programs.ui.terminal import table as new_table

Result = Mapping[str, Any]


def print_sweep(report: Mapping[str, Any], directory: Path) -> None:
    """Print a sweep's report to stdout, the last line of which says where everything is."""
    for result in report["tasks"].values():
        output().print(_table(result, list(report["models"]), report["ks"]))
        print_texts(_notes(result))
    print_texts(f"{name} is {model}" for name, model in report["models"].items() if name != model)
    print_texts([f"{report['seconds']:.0f} s; everything is in {directory}; report.html shows every example"])


def failed_cells(report: Mapping[str, Any], directory: Path) -> str | None:
    """How many cells of a sweep have failed rows, how many the first one has, and its file; None if no row failed."""
    cells = [cell for result in report["tasks"].values() for cell in result["cells"]]
    lines = [line for cell in cells if (line := failed_line(cell, directory / cell["directory"]))]
    return f"rows of {len(lines)} cells failed, first {lines[0]}" if lines else None


def _notes(result: Result) -> Iterator[str]:
    """A task's trivial baselines, what could not run, and published results."""
    baselines = ", ".join(f"{name} {value:.3f}" for name, value in result["baselines"].items())
    yield f"trivial baselines ({result['metric']}): {baselines}"
    for warning in result.get("warnings", ()):
        yield f"note: {warning}"
    for cell in result["cells"]:
        for program, reason in cell.get("not_runnable", {}).items():
            yield f"{program} cannot run with {cell['model']} at k={cell['k']}: {reason}"
        for program, entry in cell["programs"].items():
            if entry["failed_rows"]:
                yield f"{program} with {cell['model']} at k={cell['k']}: {failed_in_words(entry['failed_rows'])}"
    for line in published.lines(result["published"]):
        paper = published.PAPERS.get(line.partition(":")[0])
        name = published.benchmark(TASKS[result["task"]])
        yield f"published for {name} at k={published.ITEMS[name]}: {line}" + (f" (arXiv {paper})" if paper else "")


def _table(result: Result, models: Sequence[str], ks: Sequence[int]) -> Table:
    metric = result["metric"]
    better = "higher" if METRICS[metric].higher_is_better else "lower"
    facts = (result["task"], result["data"], f"{result['examples']} examples", f"{metric} ({better} is better; 95 %)")
    table = new_table(title=escape(" · ".join(facts)))
    table.add_column("model", overflow="fold")
    table.add_column("program", overflow="fold")
    for k in ks:
        table.add_column(f"k={k}", justify="right")
    table.add_column("tokens out per example, by k", justify="right")
    cells = {(cell["model"], cell["k"]): cell["programs"] for cell in result["cells"]}
    programs = list(dict.fromkeys(program for entries in cells.values() for program in entries))

    def add_row(model: str, program: str, values: Sequence[Result | None], sign: str = "", tokens: str = "") -> None:
        if any(values):
            texts = ("–" if value is None else escape(interval_text(value, sign)) for value in values)
            table.add_row(escape(model), escape(program), *texts, tokens)

    for model in models:
        for program in programs:
            entries = [cells[model, k].get(program) for k in ks]
            tokens = (
                f"{entry['tokens']['completion'] / result['examples']:.0f}" if entry else "–" for entry in entries
            )
            values = [entry and entry["metrics"][metric] for entry in entries]
            add_row(model, program, values, tokens=" / ".join(tokens))
        table.add_section()
    pairs = {
        (row["model"], row["program"], row["to"], row["k"]): row
        for row in (*result["between_models"], *result["between_programs"])
    }
    for model in models[1:]:  # against the first model
        for program in programs:
            differences = [pairs.get((model, program, models[0], k)) for k in ks]
            add_row(f"{model} − {models[0]}", program, differences, "+")
        table.add_section()
    for model in models:  # against chain of thought
        for program in programs:
            add_row(model, f"{program} − cot", [pairs.get((model, program, "cot", k)) for k in ks], "+")
    return table
