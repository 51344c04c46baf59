"""A quote that the grammar allows stands in the item, word for word, and every run of whole words is allowed."""

import html
import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from r2p_dspy.decoding.constraining import Grammar
from r2p_dspy.decoding.grammar.notation import Json, Xml
from r2p_dspy.decoding.grammar.quotes import quote_of
from r2p_dspy.values.folding import find_quote
from tests.r2p_dspy.decoding.grammar.test_answers import HOSTILE
from tests.r2p_dspy.decoding.grammar.walks import accepts, matcher, walk

NOTATIONS = {
    "json": (Json(), lambda text: json.loads(f'"{text}"')),
    "json in tags": (Json(tags=True), lambda text: json.loads(f'"{text}"')),
    "xml": (Xml(), html.unescape),
}

PIECES = ["rain", "it's", " ", "  ", "\n", "\t", '"', "\\", "\\n", "“", ".", "-", "<b>", "</draft>", "&", "&amp;"]
PIECES += ["é", "e\u0301", "東京", "。", "🎉", "\u3164", "\x00", "\x85", "\u2028", "\ud800", "7", "/", "%", "{}", "]]>"]


def grammar_of(texts, notation, least=1, most=20):
    body = quote_of(tuple(texts), notation.escaping, least, most)
    return None if body is None else Grammar(f"%llguidance {{}}\nstart: QUOTE\nQUOTE: {body}")


@pytest.mark.parametrize("name", NOTATIONS)
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), min_size=1, max_size=3), st.integers(0, 99)
)
@example(HOSTILE, 1)
def test_an_allowed_quote_stands_in_the_item(name, texts, seed):
    notation, read = NOTATIONS[name]
    grammar = grammar_of(texts, notation)
    if grammar is not None:
        quote = read(walk(matcher(grammar), random.Random(seed)))
        assert find_quote(quote, " ".join(texts)) is not None, quote


@pytest.mark.parametrize("name", NOTATIONS)
@given(st.lists(st.sampled_from(["rain", "it's", "7", "naïve", "well-made", "A+"]), min_size=1, max_size=8), st.data())
def test_every_run_of_words_is_allowed(name, words, data):
    start = data.draw(st.integers(0, len(words) - 1))
    end = data.draw(st.integers(start + 1, len(words)))
    assert accepts(grammar_of([" ".join(words)], NOTATIONS[name][0]), " ".join(words[start:end]))


TEXT = "It's a “Great” film - isn't it? (really)\nSay \"no\" \\ 東京タワー cafe\u0301 A&B"


@pytest.mark.parametrize(
    ("quote", "allowed"),
    [
        ("It's a", True),
        ("Great” film", True),
        ("film -", True),
        ("isn't it", True),
        ("isn't it?", True),
        ('(really)\nSay "no"', False),  # it begins with a bracket
        ('really)\nSay "no"', True),
        ("東京", True),
        ("京タ", True),
        ("cafe\u0301", True),
        ("cafe", False),
        ("film", True),
        ("ilm", False),
        ("fil", False),
        ("isn", False),
        (" film", False),
        ("film ", False),
        ("-", False),
        ("", False),
        ("film it", False),
        ("FILM", False),
    ],
)
@pytest.mark.parametrize("name", ["json", "xml"])
def test_whole_words_alone_are_quoted(quote, allowed, name):
    notation = NOTATIONS[name][0]
    assert accepts(grammar_of([TEXT], notation), notation.escaping.escape(quote)) == allowed


def test_the_number_of_words_is_limited():
    grammar = grammar_of(["one two three four"], Json(), least=2, most=3)
    assert [accepts(grammar, text) for text in ("one", "one two", "two three four", "one two three four")] == [
        False,
        True,
        True,
        False,
    ]
    short = grammar_of(["one two"], Json(), least=3, most=5)
    assert accepts(short, "one two") and not accepts(short, "one")  # as long as it can be


@pytest.mark.parametrize("text", ["???", "…", " - "])
def test_an_item_without_words_is_quoted_whole(text):
    assert accepts(grammar_of([text], Json()), json.dumps(text.strip(), ensure_ascii=False)[1:-1])


@pytest.mark.parametrize("text", ["", "  ", "?" * 1000])
def test_an_item_that_says_nothing_cannot_be_quoted(text):
    assert grammar_of([text], Json()) is None


def test_a_long_word_is_quoted_in_pieces():
    grammar = grammar_of(["x" * 10_000], Json())
    assert accepts(grammar, "x" * 40) and not accepts(grammar, "x" * 41)
