"""Lessons: the reasoning and the answer that the pocket model learns for a case and the items shown.

`wording` has the tasks whose answers are texts. R2P's stages and the chain of thought's rationale hold the same facts
(items, quotes, labels, what decides), so that content favours neither. A lesson only cites items that are shown: it
says nothing about a detail that no item shows, and says so where there are no items.
"""

from typing import Any

from programs.data.personas.films import PLAUSIBLE
from programs.data.personas.products import ASPECTS
from programs.data.personas.world import Case
from r2p_dspy.profile import Item, Profile
from r2p_dspy.template import Evidence, Preference, Verification

Lesson = dict[str, Any]
_QUOTE_WORDS = 3  # words in a quote
CUES = {*ASPECTS, *(word for words in PLAUSIBLE.values() for word in words)}


def lamp2(case: Case, shown: Profile) -> Lesson:
    """The lesson for a film: which detail decides, and how this user reads it."""
    matches = {cue.kind: item for cue in case.cues if (item := first(cue.word, shown))}
    evidence = _evidence([(cue.word, matches[cue.kind]) for cue in case.cues if cue.kind in matches], shown)
    ids = [quote.item for quote in evidence]
    preferences, statements = [], [_quoted(quote, shown) for quote in evidence]
    if evidence:
        preferences.append(Preference(statement=f"the {case.focus} decides", items=ids))
        statements.append(f"the {case.focus} decides")
    decisive = next(cue for cue in case.cues if cue.kind == case.focus)
    item = matches.get(case.focus)
    if item:
        preferences.append(Preference(statement=f"{decisive.word} is {item.label}", items=[item.id], label=item.label))
        statements.append(f"{decisive.word} is {item.label}")
    requirements, reason = " and ".join(cue.word for cue in case.cues), f"item {item.id} agrees" if item else None
    return lesson(requirements, evidence, preferences, statements, case.answer, reason)


def lamp3(case: Case, shown: Profile) -> Lesson:
    """The lesson for a review: what each aspect counts, and the sum."""
    matches = [(cue, item) for cue in case.cues if (item := first(cue.word, shown))]
    evidence = _evidence([(cue.word, item) for cue, item in matches], shown)
    preferences, statements, total = [], [_quoted(quote, shown) for quote in evidence], ["3"]
    for cue, item in matches:
        weight = abs(int(item.label or 3) - 3)
        counts = f"{'adds' if cue.sign > 0 else 'takes'} {weight}" if weight else "counts 0"
        preferences.append(Preference(statement=f"{cue.word} {counts}", items=[item.id], label=item.label))
        statements.append(f"{cue.word} {counts}")
        total.append(counts)
    requirements = " and ".join(f"{cue.word} {'good' if cue.sign > 0 else 'bad'}" for cue in case.cues)
    return lesson(requirements, evidence, preferences, statements, case.answer, " ".join(total) if matches else None)


def lamp1(case: Case, shown: Profile) -> Lesson:
    """The lesson for a citation: which method goes with the paper's topic."""
    topic, *methods = case.cues
    matches = {cue.word: item for cue in methods if (item := first(cue.word, shown))}
    evidence = [cite(item) for item in matches.values()] or [cite(item) for item in shown.items[:1]]
    item, preferences = matches.get(topic.value), []
    if item:
        number = next(cue.value for cue in methods if cue.word == topic.value)
        preferences.append(Preference(statement=f"{cite(item).quote} {number}", items=[item.id]))
    requirements = f"{topic.word}: {' or '.join(f'{cue.word} {cue.value}' for cue in methods)}"
    reason = f"item {item.id} agrees" if item else None
    return lesson(requirements, evidence, preferences, facts(evidence, preferences), case.answer, reason)


def words(case: Case, shown: Profile) -> Lesson:
    """The lesson for random words: as many first words as the user's titles have."""
    count = case.extra["words"]
    evidence = [cite(item) for item in shown.items[:1]]
    preferences = [Preference(statement=f"titles of {count} words", items=[quote.item]) for quote in evidence]
    start, reason = " ".join(case.answer.split()[:2]), f"{count} words" if evidence else None
    return lesson(start, evidence, preferences, facts(evidence, preferences), case.answer, reason)


def lesson(
    requirements: str,
    evidence: list[Evidence],
    preferences: list[Preference],
    statements: list[str],
    answer: str,
    reason: str | None,
) -> Lesson:
    """A lesson from its parts; the rationale is the requirements, the `statements`, and the reason."""
    known = reason or ("no item shows it" if evidence else "there is no history")
    return {
        "requirements": requirements,
        "evidence": evidence,
        "preferences": preferences,
        "draft": answer,
        "verification": Verification(approved=True, reason=known),
        "reasoning": f"{requirements}. {''.join(f'{statement}. ' for statement in statements)}{known}, so {answer}.",
        "answer": answer,
    }


def _evidence(relevant: list[tuple[str, Item]], shown: Profile) -> list[Evidence]:
    # Where no item fits the question, the first one at least shows the user's habits.
    return [cite(item, word) for word, item in relevant] or [cite(item) for item in shown.items[:1]]


def first(word: str, shown: Profile) -> Item | None:
    """The first item that contains a word."""
    return next((item for item in shown if word in item.text.split()), None)


def cite(item: Item, word: str | None = None) -> Evidence:
    """A quote from an item: from a word on, else from the first cue, else from the start."""
    words = next(iter(item.fields.values())).split()
    start = words.index(word) if word else next((at for at, text in enumerate(words) if text in CUES), 0)
    return Evidence(item=item.id, quote=" ".join(words[start : start + _QUOTE_WORDS]))


def facts(evidence: list[Evidence], preferences: list[Preference]) -> list[str]:
    """Evidence and preferences as statements of a rationale."""
    return [f'item {quote.item} has "{quote.quote}"' for quote in evidence] + [
        preference.statement for preference in preferences
    ]


def _quoted(evidence: Evidence, shown: Profile) -> str:
    item = shown.get(evidence.item)
    return f'item {evidence.item} has "{evidence.quote}": {item.label if item else ""}'
