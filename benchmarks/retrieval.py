"""Rank many users' histories with BM25 and with the loop of LaMP's official script: `python -m benchmarks.retrieval`.

There are as many users as in LaMP-1's dev set, with about as many and as long items (titles and abstracts). Words
follow Zipf's law. A query is two titles. Times are processor time, so other work on the machine matters little. The
script builds a rank_bm25 index for every query; `lookup` is the part of it that remains when its index is kept.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from rank_bm25 import BM25Okapi

from r2p_dspy import BM25, Item, Profile

_WORDS = 20_000  # size of the vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2500)
    parser.add_argument("--items", type=int, default=80, help="Items of a user.")
    parser.add_argument("--words", type=int, default=150, help="Words of an item, on average.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    spent = {"loop": 0.0, "lookup": 0.0, "first": 0.0, "repeat": 0.0}
    for texts, query, another in users(arguments):
        profile = Profile(items=[Item(id=str(n), fields={"text": text}) for n, text in enumerate(texts)])
        kept = BM25Okapi([text.split() for text in texts])
        ranked = {}
        for name, rank in (
            ("loop", lambda: top(BM25Okapi([text.split() for text in texts]), query)),  # noqa: B023
            ("lookup", lambda: top(kept, another)),  # noqa: B023
            ("first", lambda: ours(profile, query)),  # noqa: B023
            ("repeat", lambda: ours(profile, another)),  # noqa: B023
        ):
            started = time.process_time()
            ranked[name] = rank()
            spent[name] += time.process_time() - started
        if ranked["loop"] != ranked["first"] or ranked["lookup"] != ranked["repeat"]:
            raise SystemExit(f"the rankings differ: {ranked}")
    for name, seconds in spent.items():
        print(f"{name:<6} {seconds:6.2f} s for {arguments.users} users, {1000 * seconds / arguments.users:.3f} ms each")
    print(f"a first query is {spent['loop'] / spent['first']:.2f} times as fast as the loop")
    print(f"a repeat query is {spent['lookup'] / spent['repeat']:.1f} times as fast as rank_bm25 with its index kept")
    ratio = spent["loop"] / spent["repeat"]
    print(f"{'met   ' if ratio >= 10 else 'MISSED'} a repeat query is {ratio:.0f} times as fast as the loop (goal: 10)")


def users(arguments: argparse.Namespace) -> Iterator[tuple[list[str], str, str]]:
    """Yield the texts of each user's items, and two queries."""
    draw = np.random.default_rng(arguments.seed)
    words = np.array([f"word{n}" for n in range(_WORDS)], dtype=object)
    shares = 1 / np.arange(1, _WORDS + 1)
    for _ in range(arguments.users):
        lengths = draw.normal(arguments.words, arguments.words / 3, arguments.items).clip(min=1).astype(int)
        lengths = np.array([*lengths, 20, 20])
        drawn = np.split(draw.choice(words, lengths.sum(), p=shares / shares.sum()), np.cumsum(lengths)[:-1])
        *texts, query, another = [" ".join(text) for text in drawn]
        yield texts, query, another


def top(index: BM25Okapi, query: str) -> list[str]:
    """Return the whole ranking as the script computes it."""
    return index.get_top_n(query.split(), [str(n) for n in range(index.corpus_size)], n=index.corpus_size)


def ours(profile: Profile, query: str) -> list[str]:
    return [item.id for item in BM25(k=len(profile), tokenize=str.split)(query, profile)]


if __name__ == "__main__":
    main()
