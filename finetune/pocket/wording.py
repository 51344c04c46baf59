"""Lessons for tasks whose answer is a text in the user's style: tasks 4, 5 and 7; see `teach` for their rules."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from finetune.pocket.teach import Lesson, cite, facts, first, lesson
from programs.data.personas import headlines, scholarly, tweets
from programs.data.personas.world import Case
from r2p_dspy.profile import Item, Profile
from r2p_dspy.template import Evidence, Preference

WORLDS = (headlines.WORLD, scholarly.WORLD)


def titled(case: Case, shown: Profile) -> Lesson:
    """The lesson for a headline or a title: what the user calls the subject, and what the titles begin with."""
    subject, place, detail = case.cues
    item = first(subject.word, shown)
    cited = item or next(iter(shown), None)
    evidence = [Evidence(item=cited.id, quote=cited.fields["title"])] if cited else []
    preferences = [Preference(statement=f"{subject.word} is called {subject.value}", items=[item.id])] if item else []
    preferences += [Preference(statement=f"{case.focus} comes first", items=[quote.item]) for quote in evidence]
    requirements = f"{subject.word}, {place.word}, {detail.word}"
    return _lesson(case, requirements, evidence, preferences, [item] if item else [])


def tweeted(case: Case, shown: Profile) -> Lesson:
    """The lesson for a tweet: how the user opens a tweet of this mood, and closes one about this thing."""
    mood, thing = case.cues
    opens, closes = first(mood.word, shown), first(thing.word, shown)
    evidence, preferences = [], []
    if opens:
        words = opens.text.split()
        evidence.append(Evidence(item=opens.id, quote=" ".join(words[: words.index(mood.word) + 1])))
        preferences.append(Preference(statement=f"{mood.word} opens with {mood.value}", items=[opens.id]))
    if closes:
        words = closes.text.split()
        evidence.append(Evidence(item=closes.id, quote=" ".join(words[words.index(thing.word) :])))
        preferences.append(Preference(statement=f"{thing.word} closes with {thing.value}", items=[closes.id]))
    evidence = evidence or [cite(item) for item in shown.items[:1]]
    agreeing = [item for item in (opens, closes) if item]
    return _lesson(case, f"{mood.word} and {thing.word}", evidence, preferences, agreeing)


def misworded(rng: random.Random, case: Case) -> Case:
    """The case with another of the words that fit, as a reader errs."""
    fitting: Mapping[str, Sequence[str]]
    cue = case.cues[0]
    if cue.kind in tweets.KINDS:
        cue = rng.choice(case.cues)
        fitting = tweets.PLAUSIBLE[cue.kind]
    else:
        fitting = next(world.subjects for world in WORLDS if world.kind == cue.kind)
    value = rng.choice([word for word in fitting[cue.word] if word != cue.value])
    cues = tuple(replace(other, value=value) if other is cue else other for other in case.cues)
    return replace(case, cues=cues, answer=case.answer.replace(cue.value, value))


def _lesson(
    case: Case, requirements: str, evidence: list[Evidence], preferences: list[Preference], agreeing: list[Item]
) -> Lesson:
    reason = None
    if agreeing:
        ids = " and ".join(dict.fromkeys(item.id for item in agreeing))
        reason = f"items {ids} agree" if " " in ids else f"item {ids} agrees"
    return lesson(requirements, evidence, preferences, facts(evidence, preferences), case.answer, reason)
