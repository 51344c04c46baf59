"""METEOR as LongLaMP computes it: the `evaluate` package over nltk, which needs two of nltk's data sets.

Without the data set `wordnet` no synonyms are matched; without `punkt_tab` the ends of sentences are found without its
list of abbreviations. The value then differs from the official one, and reports say so (`missing_data`).
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

from r2p_dspy.scoring.rouge import Tokenize

_DATA = {"wordnet": "corpora/wordnet", "punkt_tab": "tokenizers/punkt_tab/english"}  # by the name to download
_MOST = 1 << 16  # words whose stems and synonyms are kept


def meteor(prediction: str, gold: str, tokenize: Tokenize | None = None) -> float:
    """METEOR of a text against one reference, in [0, 1), with nltk's default weights.

    Words are matched as they are, then by their stems (Porter), then by WordNet's synonyms. A text against itself has
    1 - 0.5 / words ** 3, because the fragmentation counts at least one chunk.

    Args:
        prediction, gold: the texts.
        tokenize: from a text to its words; None for nltk's `word_tokenize`, as officially.

    Examples:
        >>> words = "the cat sat on the mat".split()
        >>> round(meteor("the cat sat on the mat", "the cat sat on the mat", str.split), 4)
        0.9977
    """
    from nltk.translate.meteor_score import single_meteor_score

    given, wanted = (_words(text, tokenize) for text in (prediction, gold))
    return float(single_meteor_score(wanted, given, stemmer=_Stemmer(), wordnet=_Synonyms()))


def missing_data() -> list[str]:
    """The names of nltk's data sets that METEOR needs and that are not on this machine."""
    return [name for name in _DATA if not _is_here(name)]


@cache
def _is_here(name: str) -> bool:
    import nltk

    for path in (_DATA[name], f"{_DATA[name]}.zip"):
        try:
            nltk.data.find(path)
        except LookupError:
            continue
        return True
    return False


@lru_cache(maxsize=8192)  # every program's answers meet the same golds
def _words(text: str, tokenize: Tokenize | None) -> Sequence[str]:
    return tuple((tokenize or _word_tokenizer())(text))


@cache
def _word_tokenizer() -> Callable[[str], list[str]]:
    import nltk

    if _is_here("punkt_tab"):
        return lambda text: [*nltk.word_tokenize(text)]
    sentences, words = nltk.tokenize.PunktSentenceTokenizer(), nltk.tokenize.NLTKWordTokenizer()
    return lambda text: [word for sentence in sentences.tokenize(text) for word in words.tokenize(sentence)]


class _Stemmer:
    """Porter's stems, kept, because stemming takes most of the time."""

    def stem(self, word: str) -> str:
        return _stem(word)


class _Synonyms:
    """WordNet as nltk's METEOR asks it; without the data no word has synonyms."""

    def synsets(self, word: str) -> Sequence[Any]:
        return _synsets(word)


@lru_cache(maxsize=_MOST)
def _stem(word: str) -> str:
    return str(_porter().stem(word))


@cache
def _porter() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@lru_cache(maxsize=_MOST)
def _synsets(word: str) -> Sequence[Any]:
    if not _is_here("wordnet"):
        return ()
    from nltk.corpus import wordnet

    return tuple(wordnet.synsets(word))
