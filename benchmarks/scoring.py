"""How long scoring takes: `python -m benchmarks.scoring`.

Scores 2,500 generated texts, labels and ratings, as many as a LaMP dev set has, with every metric and its interval.
The time includes the metrics' imports.
"""

import random
import time

from metrics.intervals import of_metric
from metrics.lamp import METRICS

_GOAL = 10.0  # seconds
_TAGS = tuple(f"tag {n}" for n in range(15))
_STARS = ("1", "2", "3", "4", "5")
_WORDS = [f"{first}{second}" for first in ("rain", "coun", "park", "vot", "stat", "mark") for second in "abcdefghijklm"]


def headline(rng: random.Random) -> str:
    """Six to fourteen words; some are far more frequent than others, as in real headlines."""
    return " ".join(_WORDS[int(len(_WORDS) * rng.random() ** 2)] for _ in range(rng.randint(6, 14))).title()


def main(examples: int = 2500) -> None:
    rng = random.Random(0)
    texts = [[headline(rng) for _ in range(examples)] for _ in range(2)]
    tags = [[rng.choice((*_TAGS, "no tag")) for _ in range(examples)], rng.choices(_TAGS, k=examples)]
    stars = [[rng.choice((*_STARS, "great")) for _ in range(examples)], rng.choices(_STARS, k=examples)]
    answers = {"accuracy": (tags, _TAGS), "f1": (tags, _TAGS), "mae": (stars, _STARS), "rmse": (stars, _STARS)}
    began, working = time.perf_counter(), time.process_time()
    for name, metric in METRICS.items():
        started = time.perf_counter()
        (given, golds), labels = answers.get(name, (texts, ()))
        value, low, high = of_metric(metric, given, golds, labels)
        print(f"{name}: {value:.3f} [{low:.3f}, {high:.3f}] in {time.perf_counter() - started:.2f} s")
    seconds, cpu = time.perf_counter() - began, time.process_time() - working
    met = "met   " if seconds < _GOAL else "MISSED"
    print(f"{met} {examples} texts by every metric: {seconds:.2f} s, {seconds / _GOAL:.2f} of {_GOAL:.0f} s")
    print(f"       (of the CPU's time {cpu:.2f} s)")


if __name__ == "__main__":
    main()
