"""An explanation as plain text, for a terminal, a log or a ticket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from r2p_dspy.explaining.attempts import Candidate
from r2p_dspy.explaining.explanation import CitedItem, Correction, Explanation, Span, StatedPreference, in_words, pieces
from r2p_dspy.values.lines import one_line

_MOST = 2000  # characters of a field of the question or the answer
_AROUND = 120  # characters of an item on each side of a quote
_OPEN, _CLOSE = "«", "»"


def as_text(explanation: Explanation) -> str:
    """Tell an explanation in lines under headings; what does not apply is left out.

    A quote stands between « and » in the text of its item. A long item is shown around its quotes. Texts hold nothing
    that a terminal obeys.
    """
    numbers = ", ".join(f"item {number} is {own}" for number, own in explanation.item_numbers.items())
    parts: dict[str, Iterable[str]] = {
        "Question": _fields(explanation.question.items()),
        "Answer": _fields(explanation.answers.items()),
        "Evidence": map(_cited, explanation.cited),
        "Preferences": map(_preference, explanation.preferences),
        f"Corrections ({numbers})" if numbers else "Corrections": map(_correction, explanation.corrections),
        "Candidates": (describe_candidate(number, each) for number, each in enumerate(explanation.candidates, start=1)),
        "Decision": [explanation.decision] if explanation.decision else [],
        "Unmet checks": explanation.unmet,
        "Warnings": explanation.warnings,
    }
    lines = {title: [*map(one_line, texts)] for title, texts in parts.items()}
    return "\n\n".join("\n- ".join([f"{one_line(title)}:", *texts]) for title, texts in lines.items() if texts)


def _fields(fields: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {_shortened(value)}" for name, value in fields]


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST else f"{text[:_MOST]}… ({len(text) - _MOST:,} more characters)"


def _cited(cited: CitedItem) -> str:
    missing = ", ".join(f'"{quote}"' for quote in cited.missing)
    if cited.item is None:
        return f"item {cited.id}: there is none; the model quotes {missing}"
    head = f"item {cited.id}{f' ({cited.item.label})' if cited.item.label else ''}"
    texts = [_marked(text, cited.marks.get(name, ())) for name, text in cited.item.fields.items() if text.strip()]
    absent = f" (it does not hold {missing})" if missing else ""
    return f"{head}: {' · '.join(texts)}{absent}"


def _marked(text: str, spans: Sequence[Span]) -> str:
    """A text with marks around its quotes; far from them it is left out."""
    shown = []
    parts = [*pieces(text, spans)]
    for place, (part, is_marked) in enumerate(parts):
        first, last = place == 0, place == len(parts) - 1
        shown.append(f"{_OPEN}{part}{_CLOSE}" if is_marked else _around(part, before=not first, after=not last))
    return "".join(shown)


def _around(text: str, before: bool, after: bool) -> str:
    """The parts of a text that stand next to a quote before or after it; its beginning, where there is no quote."""
    wanted = _AROUND * max(before + after, 1)
    if len(text) <= wanted:
        return text
    head = text[:_AROUND] if before or not after else ""
    tail = text[-_AROUND:] if after else ""
    return f"{head}…{tail}"


def _preference(preference: StatedPreference) -> str:
    return f"{preference.statement} (items {', '.join(preference.items)})"


def _correction(correction: Correction) -> str:
    return f"{correction.when}: {correction.message}"


def describe_candidate(number: int, candidate: Candidate) -> str:
    """A candidate in one line: its answer, what became of it, and how many agree."""
    answer = ", ".join(_shortened(in_words(value)) for value in candidate.answer.values())
    facts = [f"{number}: {answer or 'no answer'}"]
    if candidate.error is not None:
        facts.append(candidate.error)
    elif not candidate.survives:
        facts.append("fails an assert")
    facts += [f"{candidate.support} answer so"] * (candidate.support > 0)
    facts += ["chosen"] * candidate.chosen
    return "; ".join(facts)
