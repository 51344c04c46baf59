"""How long scoring takes: `python -m benchmarks.scoring`.

Scores 2,500 generated texts, labels and ratings, as many as a LaMP dev set has, and then 2,500 answers of 300 words, as
LongLaMP and LaMP-QA have them, with every metric that needs no judge, and its interval. Times are the processor's, so
that other work beside it does not count, and include the metrics' imports. METEOR has no synonyms where WordNet is
missing, and is quicker then; the last line says so. `NLTK_DATA=DIR` says where it is.
"""

import random
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pydoc_data.topics import topics
from typing import Any

from metrics.intervals import of_metric
from metrics.lamp import METRICS
from metrics.meteor import missing_data

_GOAL, _LONG_GOAL = 10.0, 60.0  # seconds
_LONG = ("rouge1", "rougeL", "meteor", "coverage")  # the metrics of long answers
_TAGS = tuple(f"tag {n}" for n in range(15))
_STARS = ("1", "2", "3", "4", "5")
_ENDS = "abcdefghijklm"
_WORDS = [f"{first}{second}" for first in ("rain", "coun", "park", "vot", "stat", "mark") for second in _ENDS]
# English words, the most frequent first, so that WordNet knows most of them: those of Python's own manual.
_LEXICON = [word for word, _ in Counter(re.findall("[a-z]{2,}", " ".join(topics.values()).lower())).most_common()]

Answers = tuple[Sequence[Any], Sequence[Any], Sequence[str]]  # predictions, golds, labels


def headline(rng: random.Random) -> str:
    """Six to fourteen words; some are far more frequent than others, as in real headlines."""
    return " ".join(_WORDS[int(len(_WORDS) * rng.random() ** 2)] for _ in range(rng.randint(6, 14))).title()


def essay(rng: random.Random, theme: Sequence[str], words: int = 300) -> str:
    """Sentences of 8 to 24 words; half of the words are of the theme, the others as frequent as in real texts."""
    written: list[str] = []
    while len(written) < words:
        length = min(rng.randint(8, 24), words - len(written))
        ranks = (int(len(_LEXICON) ** rng.random()) - 1 for _ in range(length))
        sentence = [rng.choice(theme) if rng.random() < 0.5 else _LEXICON[rank] for rank in ranks]
        written += [sentence[0].title(), *sentence[1:-1], f"{sentence[-1]}."]
    return " ".join(written)


def rubric(rng: random.Random, theme: Sequence[str]) -> Mapping[str, Any]:
    """Five aspects, each with a title and twenty words of evidence."""
    texts = [" ".join(rng.choices(theme, k=20)) for _ in range(5)]
    return {"narrative": "", "aspects": [{"aspect": text[:30], "reason": "", "evidence": text} for text in texts]}


def score(what: str, answers: Mapping[str, Answers], goal: float) -> None:
    """Compute metrics with their intervals, and print how long that took."""
    began, working = time.perf_counter(), time.process_time()
    for name, (given, golds, labels) in answers.items():
        started = time.perf_counter()
        value, low, high = of_metric(METRICS[name], given, golds, labels)
        print(f"{name}: {value:.3f} [{low:.3f}, {high:.3f}] in {time.perf_counter() - started:.2f} s")
    seconds, cpu = time.perf_counter() - began, time.process_time() - working
    met = "met   " if cpu < goal else "MISSED"
    print(f"{met} {what}: {cpu:.2f} s of one core, {cpu / goal:.2f} of {goal:.0f} s ({seconds:.2f} s on the clock)")


def main(examples: int = 2500) -> None:
    rng = random.Random(0)
    texts = [[headline(rng) for _ in range(examples)] for _ in range(2)]
    tags = [[rng.choice((*_TAGS, "no tag")) for _ in range(examples)], rng.choices(_TAGS, k=examples)]
    stars = [[rng.choice((*_STARS, "great")) for _ in range(examples)], rng.choices(_STARS, k=examples)]
    short: dict[str, Answers] = dict.fromkeys(("accuracy", "f1"), (*tags, _TAGS))
    short |= dict.fromkeys(("mae", "rmse"), (*stars, _STARS))
    short |= dict.fromkeys(("rouge1", "rougeL", "meteor"), (*texts, ()))
    score(f"{examples} labels, ratings and headlines", short, _GOAL)
    themes = [rng.sample(_LEXICON, 60) for _ in range(examples)]
    given, golds = ([essay(rng, theme) for theme in themes] for _ in range(2))
    rubrics = [rubric(rng, theme) for theme in themes]
    score(
        f"{examples} answers of 300 words",
        {name: (given, rubrics if name == "coverage" else golds, ()) for name in _LONG},
        _LONG_GOAL,
    )
    print(f"       nltk's data that METEOR went without: {', '.join(missing_data()) or 'none'}")


if __name__ == "__main__":
    main()
