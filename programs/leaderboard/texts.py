"""The leaderboard as Markdown, CSV and JSON."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from programs.leaderboard.boards import Board, Entry, Metric
from programs.report_html.tables import NONE
from r2p_dspy.values.lines import one_line

_MARKUP = re.compile(r"([\\`*_{}\[\]<>|~&#!])")
_FORMULA = ("=", "+", "-", "@")  # a spreadsheet would compute a text that begins so


def as_json(boards: Sequence[Board], left_out: Sequence[str]) -> str:
    """One object: `boards` with their entries and baselines, and `left_out`, a line for each unread report."""
    content = {"boards": [_board(board) for board in boards], "left_out": [*left_out]}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_csv(boards: Sequence[Board], left_out: Sequence[str]) -> str:
    """A line for each entry and metric; what is not known is empty."""
    lines = [line for board in boards for line in _lines(board)]
    text = io.StringIO()
    writer = csv.DictWriter(text, [*lines[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)
    return text.getvalue()


def as_markdown(boards: Sequence[Board], left_out: Sequence[str]) -> str:
    """A table for each board."""
    return "\n\n".join(["# Leaderboard", *map(_table, boards), *(f"Left out: {_md(line)}" for line in left_out)]) + "\n"


def _board(board: Board) -> dict[str, Any]:
    measured = board.measured
    return {
        "task": measured.task,
        "data": board.sources,
        "split": board.splits,
        "data_digest": measured.data,
        "synthetic": board.is_synthetic,
        "examples": measured.examples,
        "users": measured.users,
        "metrics": [str(metric) for metric in measured.metrics],
        "entries": [
            {
                "rank": rank,
                **_facts(entry),
                "metrics": {str(name): of.model_dump() for name, of in entry.values.items()},
            }
            for entry, rank in zip(board.entries, board.ranks(), strict=True)
        ],
        "baselines": [
            {"name": baseline.name, "metrics": {str(name): value for name, value in baseline.values.items()}}
            for baseline in board.baselines
        ],
    }


def _facts(entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in vars(entry).items() if name != "values"}


def _lines(board: Board) -> Iterator[dict[str, Any]]:
    own = {name: value for name, value in _board(board).items() if name not in ("metrics", "entries", "baselines")}
    shared = own | {name: "; ".join(own[name]) for name in ("data", "split")}
    for entry, rank in zip(board.entries, board.ranks(), strict=True):
        for metric, interval in entry.values.items():
            value = interval.model_dump()
            yield {
                **shared,
                "rank": rank if metric == board.metric else None,
                **_facts(entry),
                "metric": str(metric),
                **value,
            }


def _cell(value: Any) -> Any:
    return f"'{one_line(value)}" if isinstance(value, str) and value.lstrip().startswith(_FORMULA) else value


def _table(board: Board) -> str:
    measured = board.measured
    metrics = [str(metric) for metric in measured.metrics]
    users = NONE if measured.users is None else measured.users
    facts = f"{', '.join(board.sources)}; {', '.join(board.splits)}; {measured.examples} examples, {users} users"
    header = [
        "rank",
        "program",
        "model",
        *metrics,
        "complies",
        "evidence holds",
        "calls",
        "tokens",
        "US$/1,000",
        "date",
    ]
    rows = [_row(entry, rank, measured.metrics) for entry, rank in zip(board.entries, board.ranks(), strict=True)]
    rows += [
        ["", f"{baseline.name} (trivial)", "", *(_number(baseline.values.get(metric)) for metric in measured.metrics)]
        for baseline in board.baselines
    ]
    lines = [header, ["---"] * len(header), *([*row, *[""] * (len(header) - len(row))] for row in rows)]
    table = "\n".join(f"| {' | '.join(cell if cell == '---' else _md(cell) for cell in line)} |" for line in lines)
    synthetic = "**Synthetic data.** " if board.is_synthetic else ""
    return f"## {_md(measured.task)}\n\n{synthetic}{_md(facts)}; data {_md(measured.data)}\n\n{table}"


def _row(entry: Entry, rank: int | None, metrics: Sequence[Metric]) -> list[str]:
    intervals = (entry.values[metric] for metric in metrics)
    return [
        "" if rank is None else str(rank),
        entry.program,
        entry.model,
        *(f"{of.value:.3f} [{of.low:.3f}, {of.high:.3f}]" for of in intervals),
        _number(entry.compliance),
        _number(entry.evidence_validity),
        f"{entry.calls:.2f}",
        f"{entry.completion_tokens:,.0f}",
        NONE if entry.cost is None else f"{entry.cost:,.2f}",
        entry.date,
    ]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _md(text: str) -> str:
    """A text on one line, without a sign that Markdown obeys.

    Examples:
        >>> _md("a|b <b>*bold*</b>")
        'a\\\\|b \\\\<b\\\\>\\\\*bold\\\\*\\\\</b\\\\>'
    """
    return _MARKUP.sub(r"\\\1", one_line(text))
