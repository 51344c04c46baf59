"""An explanation as HTML, for notebooks. Every text is escaped: no text of a user or a model becomes markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from r2p_dspy.explaining.as_text import describe_candidate
from r2p_dspy.explaining.explanation import CitedItem, Explanation, Span, StatedPreference, pieces
from r2p_dspy.values.lines import visible

# In the notebook's own colours, light or dark; `<mark>` alone has one of its own.
_LIST = '<ul style="margin:0;padding-left:1.2em">'
_MARK = '<mark style="background:#ffe08a;color:#1f1a00">'
_CELL = "vertical-align:top;text-align:left;padding:.2em .8em .2em 0"


def as_html(explanation: Explanation) -> str:
    """Tell an explanation as one table; what does not apply is left out.

    Each text sets its own direction, so Arabic and Hebrew stand as they are read.
    """
    numbers = ", ".join(f"item {number} is {own}" for number, own in explanation.item_numbers.items())
    rows: dict[str, list[str]] = {
        "Question": [*map(_field, explanation.question.items())],
        "Answer": [*map(_field, explanation.answers.items())],
        "Evidence": [*map(_cited, explanation.cited)],
        "Preferences": [*map(_preference, explanation.preferences)],
        "Corrections": [f"<i>{_text(each.when)}:</i> {_isolated(each.message)}" for each in explanation.corrections],
        "Candidates": [
            _isolated(describe_candidate(number, each)) for number, each in enumerate(explanation.candidates, start=1)
        ],
        "Decision": [_isolated(explanation.decision)] if explanation.decision else [],
        "Unmet checks": [*map(_isolated, explanation.unmet)],
        "Warnings": [*map(_isolated, explanation.warnings)],
    }
    if numbers:
        rows["Corrections"].append(f"<small>{_isolated(numbers)}</small>")
    body = "".join(_row(title, entries) for title, entries in rows.items() if entries)
    return f'<table style="border-collapse:collapse">{body}</table>'


def _row(title: str, entries: Sequence[str]) -> str:
    listed = entries[0] if len(entries) == 1 else f"{_LIST}{''.join(f'<li>{entry}</li>' for entry in entries)}</ul>"
    return f'<tr><th scope="row" style="{_CELL}">{title}</th><td style="{_CELL}">{listed}</td></tr>'


def _field(field: tuple[str, str]) -> str:
    name, value = field
    return f"<b>{_text(name)}</b>: {_isolated(value)}"


def _cited(cited: CitedItem) -> str:
    missing = ", ".join(f"“{_isolated(quote)}”" for quote in cited.missing)
    if cited.item is None:
        return f"item {_isolated(cited.id)}: there is none; the model quotes {missing}"
    label = f" ({_isolated(cited.item.label)})" if cited.item.label else ""
    fields = ((text, cited.marks.get(name, ())) for name, text in cited.item.fields.items() if text.strip())
    texts = " · ".join(f'<bdi style="white-space:pre-wrap">{_marked(text, spans)}</bdi>' for text, spans in fields)
    absent = f" <i>(it does not hold {missing})</i>" if missing else ""
    return f"<b>item {_isolated(cited.id)}</b>{label}: {texts}{absent}"


def _marked(text: str, spans: Sequence[Span]) -> str:
    parts: Iterable[tuple[str, bool]] = pieces(text, spans)
    return "".join(f"{_MARK}{_text(part)}</mark>" if is_marked else _text(part) for part, is_marked in parts)


def _preference(preference: StatedPreference) -> str:
    return f"{_isolated(preference.statement)} (items {_isolated(', '.join(preference.items))})"


def _isolated(text: str) -> str:
    """A text whose direction does not reach what stands around it."""
    return f"<bdi>{_text(text)}</bdi>"


def _text(text: str) -> str:
    return escape(visible(text))
