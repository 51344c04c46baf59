"""Auxiliary tasks: short conversations that teach one part of citing and nothing else."""

import json
import random

from finetune.pocket.conversation import Turn
from programs.data.personas import films, products
from programs.tasks import lamp2, lamp3
from r2p_dspy.profile import Item, Profile
from r2p_dspy.template import Preference

KINDS = ("copy", "label", "tell", "find", "judge", "weigh")


def auxiliary_task(
    rng: random.Random, words: list[str], kinds: tuple[str, ...] = KINDS, most: int = 3, known: int = 30
) -> list[Turn]:
    """A conversation that teaches one part of citing, mostly from at most `most` items of random words.

    One of `kinds` is drawn: `copy` an item's words by its id, copy its `label`, `tell` which item three words are from,
    `find` the item of one word, `judge` what a label is about among `known` settings and figures, `weigh` an aspect.
    """
    kind = rng.choice(kinds)
    if kind == "judge":
        return _judge(rng, known)
    if kind == "weigh":
        return _weigh(rng)
    common = words[:4000]
    texts = [" ".join(rng.choice(common) for _ in range(rng.randint(4, 6))) for _ in range(rng.randint(2, most))]
    name = rng.choice(("text", "description", "title"))
    items = [{"id": str(n), name: text} for n, text in enumerate(texts)]
    if kind == "label":
        labels = rng.choice((lamp2.TASK.labels, lamp3.TASK.labels, common))
        labelled = [{**item, "label": rng.choice(labels)} for item in items]
        return _label(rng, Profile.model_validate(labelled).local())
    shown = Profile.model_validate(items).local()
    return _copy(rng, shown) if kind == "copy" else _find(rng, shown, 1 if kind == "find" else 3)


def _judge(rng: random.Random, known: int) -> list[Turn]:
    """One film after another: whether its label fits the setting or the figure; it fits only one of them.

    Half of the rows hold little more than the three words, so that many films fit into a step.
    """
    row: list[Turn] = []
    short = rng.random() < 0.5
    while len(row) < (40 if short else 12):
        words = {kind: rng.choice([*films.PLAUSIBLE[kind]][:known]) for kind in films.KINDS}
        focus = rng.choice(films.KINDS)
        tag = rng.choice(films.PLAUSIBLE[focus][words[focus]])
        if sum(tag in films.PLAUSIBLE[kind][word] for kind, word in words.items()) == 1:
            brief = " and ".join(rng.sample([*words.values()], 2))
            item = Item(
                id=str(rng.randint(1, 6)),
                fields={"description": films.describe(words["setting"], words["figure"], rng)},
                label=tag,
            )
            question = f"{brief}: {tag}" if short else str(item)
            row += [Turn("user", question, True), Turn("assistant", f"the {focus} decides", True)]
    return row


def _weigh(rng: random.Random) -> list[Turn]:
    """One aspect of rated products after another: what it adds to a rating or takes from it, as an item shows."""
    aspects = rng.sample([*products.ASPECTS], rng.randint(3, 6))
    items = [
        Item(
            id=str(number),
            fields={"text": f"{products.remark(aspect, sign, rng)} {products.aside(rng)}"},
            label=str(products.clamp(3 + sign * rng.choice(products.WEIGHTS))),
        )
        for number, aspect in enumerate(aspects, start=1)
        for sign in (rng.choice((1, -1)),)
    ]
    pairs = []
    for _ in range(8):
        aspect, item = rng.choice([*zip(aspects, items, strict=True)])
        good = rng.random() < 0.5
        weight = abs(int(item.label or 3) - 3)
        counts = f"{'adds' if good else 'takes'} {weight}" if weight else "counts 0"
        pairs.append((f"{aspect} {'good' if good else 'bad'}", _preference(f"{aspect} {counts}", item)))
    return _questions(Profile(items=items), pairs)


def _label(rng: random.Random, shown: Profile) -> list[Turn]:
    """One item after another: its label, as a preference cites it."""
    drawn = [rng.choice(shown.items) for _ in range(8)]
    return _questions(shown, [(f"item {item.id}", _preference(f"item {item.id}", item)) for item in drawn])


def _copy(rng: random.Random, shown: Profile) -> list[Turn]:
    """Quotes from all items by id, in another order."""
    quotes = []
    for item in rng.sample(shown.items, len(shown)):
        words = item.text.split()
        start = rng.choice((0, 0, rng.randrange(len(words) - 2)))
        quotes.append({"item": item.id, "quote": " ".join(words[start : start + 3])})
    return [Turn("user", str(shown)), Turn("assistant", json.dumps(quotes), True)]


def _find(rng: random.Random, shown: Profile, length: int) -> list[Turn]:
    """One question after another: words from inside an item, and that item's id.

    The words never begin a text, where a word has other tokens. Three words lead to the item by copying alone, so that
    only its id is left to learn; a single word has to be searched for.
    """
    pairs: list[tuple[str, str]] = []
    everywhere = [word for item in shown for word in item.text.split()]
    while len(pairs) < 8:
        item = rng.choice(shown.items)
        words = item.text.split()
        start = rng.randrange(1, len(words) - length + 1)
        if everywhere.count(words[start]) == 1:
            pairs.append((f"about {' '.join(words[start : start + length])}", f'[{{"item": "{item.id}'))
    return _questions(shown, pairs)


def _questions(shown: Profile, pairs: list[tuple[str, str]]) -> list[Turn]:
    """Questions with answers, after the items."""
    turns = [turn for pair in pairs for turn in (Turn("user", pair[0]), Turn("assistant", pair[1], True))]
    return [Turn("user", f"{shown}\n\n{turns[0].content}"), *turns[1:]]


def _preference(statement: str, item: Item) -> str:
    return json.dumps([Preference(statement=statement, items=[item.id], label=item.label).model_dump()])
