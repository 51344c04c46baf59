"""The stages that cite the history, as grammars: evidence, and preferences that rest on it."""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from r2p_dspy.decoding.grammar.lark import Rules, either
from r2p_dspy.decoding.grammar.notation import Member, Notation
from r2p_dspy.decoding.grammar.quotes import quote_of
from r2p_dspy.values.words import count_words

LabelRule = Literal["items", "cited"]
_WHOLE = 20  # words of a text that is quoted whole, at most
_LONGEST_WORD = 12  # characters of a word in such a text, on average


class Shown(NamedTuple):
    """An item as the prompt shows it."""

    id: str
    texts: tuple[str, ...]
    label: str | None
    whole: bool = False  # whether its texts are quoted from end to end


def citable(items: Sequence[Shown], notation: Notation, words: tuple[int, int]) -> list[Shown]:
    """The items of which something can be quoted."""
    return [item for item in items if quote_of(item.texts, notation.escaping, *words) is not None]


def evidence(
    rules: Rules, notation: Notation, items: Sequence[Shown], words: tuple[int, int], most: int, level: int
) -> str:
    """A list of quotes, each of its own item and at most one of each: at least one, if there is an item to quote."""
    quotes = [(item.id, _quote(rules, notation, item, words)) for item in items]
    citations = [
        rules.rule(
            "citation",
            notation.object([Member("item", notation.constant(item_id)), Member("quote", quote)], level + 1),
        )
        for item_id, quote in quotes
        if quote is not None
    ]
    if not citations:
        return notation.list("", 0, 0, level)
    return notation.distinct(rules, citations, most, level)


def _quote(rules: Rules, notation: Notation, item: Shown, words: tuple[int, int]) -> str | None:
    """What may be quoted of an item; None for nothing."""
    breaks = notation.escaping.breaks
    whole = [
        text
        for text in item.texts
        if item.whole and _is_short(text) and text.isprintable() and not (breaks and breaks.search(text))
    ]
    if whole:
        return either(*map(notation.constant, whole))
    body = quote_of(item.texts, notation.escaping, *words)
    return None if body is None else notation.quoted(rules.terminal("QUOTE", body))


def _is_short(text: str) -> bool:
    # A long word is an address or data, which no answer should have to copy.
    return len(text) <= _WHOLE * _LONGEST_WORD and count_words(text) <= _WHOLE


def preferences(
    rules: Rules,
    notation: Notation,
    items: Sequence[Shown],
    label_rule: LabelRule,
    characters: int,
    most: int,
    level: int,
) -> str:
    """A list of preferences that rest on these items; none where there are no items.

    With the label rule "items" a preference may name the label of any of these items. With "cited" it may only name
    the one label that all items of the preference bear.
    """
    if not items:
        return notation.list("", 0, 0, level)
    statement = Member("statement", notation.string(rules, 1, characters))

    def about(ids: Collection[str], labels: Collection[str | None]) -> str:
        """A preference that rests on some of the ids, with one of the labels."""
        chosen = notation.distinct(rules, [*map(notation.constant, ids)], len(ids), level + 2)
        cited = Member("items", rules.rule("ids", chosen))
        label = Member("label", either(*map(notation.constant, labels)), optional=None in labels)
        return notation.object([statement, cited, label], level + 1)

    ids = [item.id for item in items]
    labels = [item.label for item in items if item.label]
    if label_rule == "items":
        kinds = [about(ids, dict.fromkeys([*labels, None]))]
    else:
        bearing = {label: [item.id for item in items if item.label == label] for label in labels}
        kinds = [about(ids, [None]), *(about(those, [label]) for label, those in bearing.items())]
    return notation.list(rules.rule("preference", either(*kinds)), 0, most, level)
