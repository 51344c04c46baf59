"""Ranking many users' histories, beside the loop of LaMP's official script: `python -m benchmarks.retrieval`.

As many users as LaMP-1's dev set has, with about as many and as long items: titles and abstracts, of words as frequent
as words are (Zipf's law), and queries of two titles. The loop, a first and a second query of each profile are measured
in turns, in processor time, so that what else the machine does says little; and the rankings are compared.
"""

import argparse
import time
from collections.abc import Iterator

import numpy as np
from rank_bm25 import BM25Okapi

from r2p_dspy import BM25, Item, Profile

_WORDS = 20_000  # that there are


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2500)
    parser.add_argument("--items", type=int, default=80, help="of a user")
    parser.add_argument("--words", type=int, default=150, help="of an item, on average")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    spent = {"loop": 0.0, "first": 0.0, "second": 0.0}
    for texts, query, another in users(arguments):
        profile = Profile(items=[Item(id=str(n), fields={"text": text}) for n, text in enumerate(texts)])
        ranked = {}
        for name, rank in (
            ("loop", lambda: official(texts, query)),  # noqa: B023
            ("first", lambda: ours(profile, query)),  # noqa: B023
            ("second", lambda: ours(profile, another)),  # noqa: B023
        ):
            started = time.process_time()
            ranked[name] = rank()
            spent[name] += time.process_time() - started
        if ranked["loop"] != ranked["first"]:
            raise SystemExit(f"the rankings differ: {ranked['first']} is not {ranked['loop']}")
    for name, seconds in spent.items():
        print(f"{name:<6} {seconds:6.2f} s for {arguments.users} users, {1000 * seconds / arguments.users:.3f} ms each")
    verdict("as fast as the loop over rank_bm25, at least", spent["loop"] / spent["first"], 1)
    verdict("a second query of a profile 10 times as fast as the first, at least", spent["first"] / spent["second"], 10)


def users(arguments: argparse.Namespace) -> Iterator[tuple[list[str], str, str]]:
    """Of each user the items' texts, and two queries."""
    draw = np.random.default_rng(arguments.seed)
    words = np.array([f"word{n}" for n in range(_WORDS)], dtype=object)
    shares = 1 / np.arange(1, _WORDS + 1)
    for _ in range(arguments.users):
        lengths = draw.normal(arguments.words, arguments.words / 3, arguments.items).clip(min=1).astype(int)
        lengths = np.array([*lengths, 20, 20])
        drawn = np.split(draw.choice(words, lengths.sum(), p=shares / shares.sum()), np.cumsum(lengths)[:-1])
        *texts, query, another = [" ".join(text) for text in drawn]
        yield texts, query, another


def official(texts: list[str], query: str) -> list[str]:
    """The whole ranking, as the script has it."""
    index = BM25Okapi([text.split() for text in texts])
    return index.get_top_n(query.split(), [str(n) for n in range(len(texts))], n=len(texts))


def ours(profile: Profile, query: str) -> list[str]:
    return [item.id for item in BM25(k=len(profile))(query, profile)]


def verdict(goal: str, ratio: float, least: float) -> None:
    print(f"{'met   ' if ratio >= least else 'MISSED'} {goal}: {ratio:.1f} times")


if __name__ == "__main__":
    main()
