"""A part of a long history is ranked as the whole would be."""

import random

import pytest

from r2p_dspy import BM25, Profile
from r2p_dspy.retrieval.index import Index
from r2p_dspy.retrieval.sample import Sample
from r2p_dspy.values.words import words

WORDS = [f"word{number}" for number in range(300)]
WEIGHTS = [1 / (number + 1) for number in range(300)]


def history(count, seed):
    draw = random.Random(seed)
    texts = (" ".join(draw.choices(WORDS, WEIGHTS, k=12)) for _ in range(count))
    return Profile.of([{"id": str(number), "text": text} for number, text in enumerate(texts)])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tokenize", [words, str.split])
def test_items_of_a_sample_score_as_in_the_whole_history(seed, tokenize):
    whole = history(600, seed)
    query = tokenize(" ".join(random.Random(seed).sample(WORDS[5:], 6)))
    corpus = [tokenize(item.text) for item in whole]
    having = {word: sum(word in text for text in corpus) for word in query}
    places = [place for place, text in enumerate(corpus) if not {*query}.isdisjoint(text)]
    sample = Sample.from_history([whole[place] for place in places], len(whole), having)
    expected = Index(corpus).get_scores(query)[places].tolist()
    assert sample.scores(query, [corpus[place] for place in places]) == pytest.approx(expected)


def test_a_word_of_every_item_of_the_sample_may_still_be_rare():
    texts = ["a lighthouse and the sea", "a lighthouse in the rain", "the rain and the sea and the rain"]
    items = Profile.of([{"id": str(number), "text": text} for number, text in enumerate(texts)]).items
    sample = Sample.from_history(items, 10_000, {"lighthouse": 2, "rain": 6000})
    assert [item.id for item in BM25(k=3)("lighthouse rain", sample)] == ["1", "0", "2"]


@pytest.mark.parametrize("query, items", [("", 2), ("unknown", 2), ("rain", 0)])
def test_nothing_to_weigh(query, items):
    rows = [{"id": str(number), "text": "rain"} for number in range(items)]
    sample = Sample.from_history(Profile.of(rows).items, 5000, {})
    assert len(BM25(k=9)(query, sample)) == items
