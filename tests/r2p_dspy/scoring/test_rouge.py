"""ROUGE, which must be that of the rouge-score package to the last digit."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from r2p_dspy.scoring.rouge import longest_common, rouge1, rouge_l, rouge_words

WORDS = st.lists(st.sampled_from("abcd"), max_size=90)
SCORER = RougeScorer(["rouge1", "rougeL"], tokenizer=SimpleNamespace(tokenize=str.split))


@given(st.text(st.sampled_from("aZ9_é \n.İß'中")) | st.text())
def test_words_are_those_of_rouge_score(text):
    assert rouge_words(text) == DefaultTokenizer().tokenize(text)


@given(WORDS, WORDS)
def test_values_are_those_of_rouge_score(prediction, gold):
    wanted = SCORER.score(" ".join(gold), " ".join(prediction))
    assert rouge1(prediction, gold) == wanted["rouge1"].fmeasure
    assert rouge_l(prediction, gold) == wanted["rougeL"].fmeasure


@pytest.mark.parametrize(
    ("first", "second", "length"),
    [("", "", 0), ("abc", "", 0), ("abcd", "xbxd", 2), ("aaaa", "aa", 2), ("ab" * 80, "ba" * 80, 159)],
)
def test_longest_common_subsequence(first, second, length):
    assert longest_common(first, second) == longest_common(second, first) == length
