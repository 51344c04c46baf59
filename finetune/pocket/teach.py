"""What the pocket model is taught to write: for a case and the items shown, the reasoning and the answer.

The tasks whose answers are texts are in `wording`.

The same facts stand in R2P's stages and in the rationale of a chain of thought (items, quotes, labels, what decides),
so that neither is handicapped by its content. Nothing is cited that is not shown: where no item bears on a detail, the
reasoning says nothing about it, and where nothing is shown, it says so.
"""

from typing import Any

from programs.data.personas.films import PLAUSIBLE
from programs.data.personas.products import ASPECTS
from programs.data.personas.world import Case
from r2p_dspy.profile import Item, Profile
from r2p_dspy.template import Evidence, Preference, Verification

Lesson = dict[str, Any]
_QUOTED = 3  # words in a quote
CUES = {*ASPECTS, *(word for words in PLAUSIBLE.values() for word in words)}


def lamp2(case: Case, shown: Profile) -> Lesson:
    """The stages, the rationale and the answer for a film: which detail decides, and how this user reads it."""
    found = {cue.kind: item for cue in case.cues if (item := first(cue.word, shown))}
    evidence = _evidence([(cue.word, found[cue.kind]) for cue in case.cues if cue.kind in found], shown)
    ids = [one.item for one in evidence]
    preferences, said = [], [_said(one, shown) for one in evidence]
    if evidence:
        preferences.append(Preference(statement=f"the {case.focus} decides", items=ids))
        said.append(f"the {case.focus} decides")
    decisive = next(cue for cue in case.cues if cue.kind == case.focus)
    item = found.get(case.focus)
    if item:
        preferences.append(Preference(statement=f"{decisive.word} is {item.label}", items=[item.id], label=item.label))
        said.append(f"{decisive.word} is {item.label}")
    requirements = " and ".join(cue.word for cue in case.cues)
    return lesson(requirements, evidence, preferences, said, case.answer, f"item {item.id} agrees" if item else None)


def lamp3(case: Case, shown: Profile) -> Lesson:
    """The stages, the rationale and the answer for a review: what each aspect counts, and the sum."""
    found = [(cue, item) for cue in case.cues if (item := first(cue.word, shown))]
    evidence = _evidence([(cue.word, item) for cue, item in found], shown)
    preferences, said, total = [], [_said(one, shown) for one in evidence], ["3"]
    for cue, item in found:
        weight = abs(int(item.label or 3) - 3)
        counts = f"{'adds' if cue.sign > 0 else 'takes'} {weight}" if weight else "counts 0"
        preferences.append(Preference(statement=f"{cue.word} {counts}", items=[item.id], label=item.label))
        said.append(f"{cue.word} {counts}")
        total.append(counts)
    requirements = " and ".join(f"{cue.word} {'good' if cue.sign > 0 else 'bad'}" for cue in case.cues)
    return lesson(requirements, evidence, preferences, said, case.answer, " ".join(total) if found else None)


def lamp1(case: Case, shown: Profile) -> Lesson:
    """The stages, the rationale and the answer for a citation: which method goes with the paper's topic."""
    topic, *methods = case.cues
    found = {cue.word: item for cue in methods if (item := first(cue.word, shown))}
    evidence = [cite(item) for item in found.values()] or [cite(one) for one in shown.items[:1]]
    item, preferences = found.get(topic.value), []
    if item:
        number = next(cue.value for cue in methods if cue.word == topic.value)
        preferences.append(Preference(statement=f"{cite(item).quote} {number}", items=[item.id]))
    said = [f'item {one.item} has "{one.quote}"' for one in evidence] + [one.statement for one in preferences]
    requirements = f"{topic.word}: {' or '.join(f'{cue.word} {cue.value}' for cue in methods)}"
    return lesson(requirements, evidence, preferences, said, case.answer, f"item {item.id} agrees" if item else None)


def words(case: Case, shown: Profile) -> Lesson:
    """The stages, the rationale and the answer for random words: as many of the start as the user's titles have."""
    count = case.extra["words"]
    evidence = [cite(one) for one in shown.items[:1]]
    preferences = [Preference(statement=f"titles of {count} words", items=[one.item]) for one in evidence]
    said = [f'item {one.item} has "{one.quote}"' for one in evidence] + [one.statement for one in preferences]
    start = " ".join(case.answer.split()[:2])
    return lesson(start, evidence, preferences, said, case.answer, f"{count} words" if evidence else None)


def lesson(
    requirements: str,
    evidence: list[Evidence],
    preferences: list[Preference],
    said: list[str],
    answer: str,
    reason: str | None,
) -> Lesson:
    """What is taught, from its parts; `said` is what the rationale says between what is asked and the reason."""
    known = reason or ("no item shows it" if evidence else "there is no history")
    return {
        "requirements": requirements,
        "evidence": evidence,
        "preferences": preferences,
        "draft": answer,
        "verification": Verification(approved=True, reason=known),
        "reasoning": f"{requirements}. {''.join(f'{one}. ' for one in said)}{known}, so {answer}.",
        "answer": answer,
    }


def _evidence(relevant: list[tuple[str, Item]], shown: Profile) -> list[Evidence]:
    # Where no item bears on the question, the first shows at least what the user goes by.
    cited = [Evidence(item=item.id, quote=_quote(item, word)) for word, item in relevant]
    return cited or [Evidence(item=item.id, quote=_quote(item)) for item in shown.items[:1]]


def first(word: str, shown: Profile) -> Item | None:
    """The first item in which a word stands."""
    return next((item for item in shown if word in item.text.split()), None)


def cite(item: Item, word: str | None = None) -> Evidence:
    """A quote from an item: from that word on, or from the first word that matters, or from the start."""
    return Evidence(item=item.id, quote=_quote(item, word))


def _quote(item: Item, word: str | None = None) -> str:
    words = next(iter(item.fields.values())).split()
    start = words.index(word) if word else next((at for at, one in enumerate(words) if one in CUES), 0)
    return " ".join(words[start : start + _QUOTED])


def _said(one: Evidence, shown: Profile) -> str:
    item = shown.get(one.item)
    return f'item {one.item} has "{one.quote}": {item.label if item else ""}'
