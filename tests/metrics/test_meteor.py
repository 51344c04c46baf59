"""METEOR: nltk's own on any text, with its data sets and without."""

import nltk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.meteor_score import meteor_score

from metrics import meteor as module
from metrics.lamp import METRICS, metric
from metrics.meteor import meteor, missing_data
from r2p_dspy.values.words import words

FEW = settings(max_examples=60)
VOCABULARY = [
    "rain",
    "Rains",
    "raining",
    "rained",
    ".",
    ",",
    "a",
    "A",
    "car",
    "automobile",
    "isn't",
    "Dr.",
    "sea",
    "(",
    '"',
]
TEXTS = st.lists(st.sampled_from(VOCABULARY), max_size=40).map(" ".join) | st.text(max_size=30)


class NoSynonyms:
    def synsets(self, word):
        return []


@pytest.fixture
def here(monkeypatch):
    """here(names) says that only these data sets are on this machine."""

    def tell(*names):
        monkeypatch.setattr(module, "_is_here", lambda name: name in names)
        for cached in (module._words, module._synsets, module._word_tokenizer):
            cached.cache_clear()

    yield tell
    for cached in (module._words, module._synsets, module._word_tokenizer):
        cached.cache_clear()


@FEW
@given(TEXTS, TEXTS)
def test_equals_nltk_over_the_same_words(prediction, gold):
    """The official call, with the synonyms that this machine has."""
    reader = NoSynonyms() if "wordnet" in missing_data() else nltk.corpus.wordnet
    wanted = meteor_score([gold.split()], prediction.split(), wordnet=reader)
    assert meteor(prediction, gold, str.split) == wanted
    assert 0 <= wanted < 1


@pytest.mark.skipif(bool(missing_data()), reason="nltk's data sets wordnet and punkt_tab are not here")
@FEW
@given(TEXTS, TEXTS)
def test_equals_the_official_call(prediction, gold):
    wanted = meteor_score([nltk.word_tokenize(gold)], nltk.word_tokenize(prediction))
    assert METRICS["meteor"].example(prediction, gold) == wanted


def test_synonyms_are_matched_as_nltk_matches_them(here, monkeypatch):
    """A stand-in for WordNet, which cannot come with the project: two words of one meaning, and a phrase."""

    class Lemma(str):
        def name(self):
            return str(self)

    class Synset:
        def lemmas(self):
            return [Lemma("car"), Lemma("auto"), Lemma("motor_car")]

    class WordNet:
        def synsets(self, word):
            return [Synset()] if word in ("car", "auto") else []

    here("wordnet")
    monkeypatch.setattr(nltk.corpus, "wordnet", WordNet())
    prediction, gold = "the auto stopped in the rain", "a car stopped in rain"
    wanted = meteor_score([gold.split()], prediction.split(), wordnet=WordNet())
    assert meteor(prediction, gold, str.split) == wanted
    here()
    assert meteor(prediction, gold, str.split) < wanted


@pytest.mark.parametrize(
    ("why", "text", "words_"),
    [
        ("the end of every sentence is a word", "It rained. It poured!", ["It", "rained", ".", "It", "poured", "!"]),
        ("contractions", "It isn't.", ["It", "is", "n't", "."]),
        ("nothing", " ", []),
    ],
)
def test_words_without_the_data_set(here, why, text, words_):
    here()
    assert list(module._words(text, None)) == words_, why
    assert missing_data() == ["wordnet", "punkt_tab"]


def test_known_value():
    """The example of nltk's documentation, which needs no synonym."""
    prediction = "It is a guide to action which ensures that the military always obeys the commands of the party"
    gold = "It is a guide to action that ensures that the military will forever heed Party commands"
    assert round(meteor(prediction, gold, str.split), 4) == 0.6944


def test_other_languages_have_their_own_words():
    assert metric("meteor", words).example("雨の街", "雨の街") > 0.9
    assert metric("meteor", words).score("雨の街", "雨の街") == 1
