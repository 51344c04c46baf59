"""The browser's data: a small index of all examples, and their transcripts in packed blocks that are read on demand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from programs.report_html.embedding import packed_block
from programs.report_html.run_files import Measured, Row
from programs.text import truncate
from r2p_dspy.values.typed import as_text

BLOCK = 20  # examples in a block
_ANSWER = 60
WRONG, RIGHT, UNANSWERED, FAILED, MISSING = range(5)  # what became of a row


def index_of(task: Measured, first_block: int, *, redact: bool) -> dict[str, Any]:
    """What the list and its filters need, in columns.

    Args:
        task: a task of the run.
        first_block: the number of its first packed block on the page.
        redact: leave out questions, answers and golds.
    """
    ids = ids_of(task)
    texts, checks = _Numbered(), _Numbered()
    rows = {name: [of_program.get(each) for each in ids] for name, of_program in task.rows.items()}
    of_each: list[Row] = [next(own[each] for own in task.rows.values() if each in own) for each in ids]
    columns = {
        name: {
            "state": [state_of(row) for row in own],
            "score": [None if row is None else row.get("score") for row in own],
            "answer": [] if redact else [texts.number(_short(row, "answer", _ANSWER)) for row in own],
            "unmet": _sparse(own, "violations", checks),
            "first": _sparse(own, "violations_first", checks),
            "interventions": {place: row["interventions"] for place, row in _held(own) if row.get("interventions")},
            "cause": {place: cause for place, row in _held(own) if (cause := _cause(row))},
        }
        for name, own in rows.items()
    }
    return {
        "name": task.report["task"],
        "ids": [str(each) for each in ids],
        "users": [str(row.get("user") or each) for row, each in zip(of_each, ids)],
        "golds": [] if redact else [texts.number(_short(row, "gold", _ANSWER)) for row in of_each],
        "programs": columns,
        "same": dict(task.same),
        "texts": texts.values,
        "checks": checks.values,
        "firstBlock": first_block,
        "block": BLOCK,
    }


def blocks_of(task: Measured) -> Iterator[Markup]:
    """The packed transcripts: for each example an object by program, in the index's order.

    A text that stands in several prompts of a block is stored once, as its place in `texts`.
    """
    if not any(map(len, task.transcripts.values())):
        return
    ids = ids_of(task)
    for start in range(0, len(ids), BLOCK):
        texts = _Numbered()
        examples = [
            {
                name: _packed(transcript, texts)
                for name, own in task.transcripts.items()
                if (transcript := own.get(each)) is not None
            }
            for each in ids[start : start + BLOCK]
        ]
        yield packed_block({"texts": texts.values, "examples": examples})


def titles_of(task: Measured) -> list[str]:
    """The beginning of each example's question."""
    titles = {each: title for own in task.transcripts.values() for each, title in own.titles.items()}
    return [titles.get(each, "") for each in ids_of(task)]


def ids_of(task: Measured) -> list[Any]:
    """The ids of all examples that any program was asked, in order."""
    return [*dict.fromkeys(each for rows in task.rows.values() for each in rows)]


def state_of(row: Row | None) -> int:
    """What became of a row; see `RIGHT` and the others."""
    if row is None:
        return MISSING
    if row.get("failed"):
        return FAILED
    if row.get("parse_failure"):
        return UNANSWERED
    right = row["answer"] == row["gold"] if row.get("right") is None else row["right"]  # None: of an earlier version
    return RIGHT if right else WRONG


class _Numbered:
    """Values by numbers, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, value: str) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    @property
    def values(self) -> list[str]:
        return [*self._numbers]


def _held(rows: Sequence[Row | None]) -> Iterator[tuple[int, Row]]:
    return ((place, row) for place, row in enumerate(rows) if row is not None)


def _sparse(rows: Sequence[Row | None], key: str, checks: _Numbered) -> dict[int, list[int]]:
    return {place: [checks.number(name) for name in row[key]] for place, row in _held(rows) if row.get(key)}


def _cause(row: Row) -> str:
    return str(row.get("failed") or row.get("parse_failure") or "")


def _short(row: Row | None, key: str, length: int) -> str:
    value = None if row is None else row.get(key)
    return "" if value is None else truncate(" ".join(as_text(value).split()), length)


def _packed(transcript: Mapping[str, Any], texts: _Numbered) -> dict[str, Any]:
    """A transcript without what is empty, and without what the index has."""
    kept = {key: value for key, value in transcript.items() if key not in ("id", "user") and value not in ({}, [], "")}
    if "calls" in kept:
        kept["calls"] = [
            {key: value for key, value in call.items() if value not in ([], "", None, False, 0)}
            | {"messages": [[role, texts.number(text)] for role, text in call.get("messages", ())]}
            for call in kept["calls"]
        ]
    return kept
