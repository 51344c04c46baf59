"""The leaderboard as a page: a table and a plot for each board."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from programs.leaderboard.boards import Baseline, Board, Entry, Metric
from programs.report_html.charts import Chart, Point, rows_chart
from programs.report_html.figures import direction, limits
from programs.report_html.rendering import rendered
from programs.report_html.tables import NONE
from r2p_dspy import __version__

_DRAWN = 20  # entries of a board that its plot shows: the best
_KINDS = {
    "r2p": "R2P",
    "compiled": "R2P, compiled or trained",
    "plain": "plain prediction and other modules",
    "control": "R2P without this user's history",
    "baseline": "trivial baseline, without a model",
}


@dataclass(frozen=True)
class Cell:
    """A cell of the table: its text, a smaller second line, and the number by which it is sorted, if it is one."""

    text: str
    second: str = ""
    number: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table, and what the page's filters compare."""

    kind: str
    program: str
    model: str
    cells: Sequence[Cell]


def page(boards: Sequence[Board], left_out: Sequence[str]) -> str:
    """The page's source.

    Args:
        boards: what it shows, those of one task behind each other.
        left_out: a line for each report that could not be read.
    """
    entries = [entry for board in boards for entry in board.entries]
    tasks = list(dict.fromkeys(board.measured.task for board in boards))
    return rendered(
        "leaderboard.html",
        styles=("page.css", "leaderboard.css"),
        script="leaderboard.js",
        command="leaderboard",
        title=" · ".join(tasks),
        tasks=[{"name": name, "boards": [*_boards(boards, name)]} for name in tasks],
        programs=sorted({entry.program for entry in entries}),
        models=sorted({entry.model for entry in entries}),
        count=len(entries),
        runs=len({entry.run for entry in entries}),
        latest=max(entry.date for entry in entries),
        version=__version__,
        left_out=left_out,
    )


def _boards(boards: Sequence[Board], task: str) -> Iterator[dict[str, Any]]:
    own = [board for board in boards if board.measured.task == task]
    for number, board in enumerate(own, start=1):
        measured = board.measured
        facts = {
            "data": ", ".join(board.sources),
            "split": ", ".join(board.splits),
            "examples": f"{measured.examples:,}",
            "users": NONE if measured.users is None else f"{measured.users:,}",
            "digest": measured.data,
        }
        yield {
            "title": f"{task}, table {number} of {len(own)}" if len(own) > 1 else "",
            "caption": f"{_direction(board.metric)}; 95 % intervals",
            "facts": facts,
            "synthetic": board.is_synthetic,
            "header": _header(measured.metrics),
            "rows": [*_rows(board)],
            "chart": _chart(board),
        }


def _header(metrics: Sequence[Metric]) -> list[str]:
    taken = ["complies", "evidence holds", "calls per answer", "tokens per answer", "US$ per 1,000 answers"]
    return ["rank", "program", "model", *map(str, metrics), *taken, "k", "seed", "date", "run"]


def _rows(board: Board) -> Iterator[Row]:
    """Entries and trivial baselines by value, so that a reader sees what is below a baseline."""
    metric, metrics = board.metric, board.measured.metrics
    rows = [
        (entry.values[metric].value, Row(entry.kind, entry.program, entry.model, _cells(entry, rank, metrics)))
        for entry, rank in zip(board.entries, board.ranks(), strict=True)
    ]
    width = len(_header(metrics))
    rows += [
        (baseline.values[metric], Row("baseline", baseline.name, "", _of_baseline(baseline, metrics, width)))
        for baseline in board.baselines
        if metric in baseline.values
    ]
    yield from (row for _, row in sorted(rows, key=lambda of_value: -(metric.sign or 1) * of_value[0]))


def _cells(entry: Entry, rank: int | None, metrics: Sequence[Metric]) -> list[Cell]:
    lost = [f"{count} {what}" for count, what in ((entry.failed, "failed"), (entry.unread, "unread")) if count]
    values = (entry.values[metric] for metric in metrics)
    return [
        Cell("", number=None) if rank is None else Cell(str(rank), number=rank),
        Cell(entry.program, ", ".join(lost)),
        Cell(entry.model, "" if entry.lm in (entry.model, f"local/{entry.model}") else entry.lm),
        *(Cell(f"{of.value:.3f}", f"{of.low:.3f} to {of.high:.3f}", of.value) for of in values),
        _share(entry.compliance),
        _share(entry.evidence_validity),
        Cell(f"{entry.calls:.2f}", number=entry.calls),
        Cell(f"{entry.completion_tokens:,.0f}", f"{entry.tokens:,.0f} with prompts", entry.completion_tokens),
        Cell(NONE) if entry.cost is None else Cell(f"{entry.cost:,.2f}", number=entry.cost),
        Cell(str(entry.k), number=entry.k),
        Cell(NONE) if entry.seed is None else Cell(str(entry.seed), number=entry.seed),
        Cell(entry.date),
        Cell(entry.run, entry.command),
    ]


def _of_baseline(baseline: Baseline, metrics: Sequence[Metric], width: int) -> list[Cell]:
    known = (baseline.values.get(metric) for metric in metrics)
    values = [Cell(NONE) if value is None else Cell(f"{value:.3f}", number=value) for value in known]
    cells = [Cell(""), Cell(baseline.name, "trivial baseline"), Cell(""), *values]
    return [*cells, *[Cell("")] * (width - len(cells))]


def _share(share: float | None) -> Cell:
    return Cell(NONE) if share is None else Cell(f"{100 * share:.1f} %", number=share)


def _chart(board: Board) -> Chart:
    """The best entries with their intervals, and the best trivial baseline."""
    metric, drawn = board.metric, board.entries[:_DRAWN]
    points = [
        Point(_name(entry, drawn), of.value, of.low, of.high, entry.kind)
        for entry in drawn
        for of in [entry.values[metric]]
    ]
    lowest = [(baseline.values[metric], baseline.name) for baseline in board.baselines if metric in baseline.values]
    if lowest:
        value, name = max(lowest, key=lambda known: (metric.sign or 1) * known[0])
        points.append(Point(name, value, value, value, "baseline"))
    of_all = f"; the best {_DRAWN} of {len(board.entries)}" if len(board.entries) > _DRAWN else ""
    note = f"{_direction(metric)}; 95 % intervals{of_all}"
    return rows_chart(f"{metric} of {board.measured.task}", note, points, _KINDS, limits(metric.name))


def _name(entry: Entry, drawn: Sequence[Entry]) -> str:
    """An entry's label: as much as tells it from the others."""
    alike = [other for other in drawn if other.program == entry.program]
    if len(alike) == 1:
        return entry.program
    others = [other for other in alike if other.model == entry.model]
    return f"{entry.program} {entry.model}" + (f" {entry.run}" if len(others) > 1 else "")


def _direction(metric: Metric) -> str:
    return direction(metric.name).replace(metric.name, str(metric), 1)
