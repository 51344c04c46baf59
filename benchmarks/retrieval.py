"""Ranking many users' histories, beside the loop of LaMP's official script: `python -m benchmarks.retrieval`.

As many users as LaMP-1's dev set has, with as many items and about as long ones: titles and abstracts made of words as
frequent as words are (Zipf's law), queries of two titles. Loop, first and second query of a profile are measured in
turns, so that whatever else the machine does hits all three, and the rankings are compared on the way.
"""

import argparse
import random
import time

from rank_bm25 import BM25Okapi

from r2p_dspy import BM25, Item, Profile

_WORDS = [f"word{n}" for n in range(20_000)]
_SHARES = [1 / (n + 1) for n in range(20_000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=2500)
    parser.add_argument("--items", type=int, default=80)
    parser.add_argument("--words", type=int, default=150, help="of an item")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)

    def text(words: int) -> str:
        return " ".join(draw.choices(_WORDS, _SHARES, k=max(1, words)))

    retriever = BM25(k=10**6)  # the whole ranking, as the script has it
    spent = {"loop": 0.0, "first": 0.0, "second": 0.0}
    for _ in range(arguments.users):
        texts = [text(round(draw.gauss(arguments.words, arguments.words / 3))) for _ in range(arguments.items)]
        profile = Profile(items=[Item(id=str(n), fields={"text": one}) for n, one in enumerate(texts)])
        queries = [text(20), text(20)]

        def official(query: str, texts: list[str] = texts) -> list[str]:
            index = BM25Okapi([one.split() for one in texts])
            return index.get_top_n(query.split(), [str(n) for n in range(len(texts))], n=len(texts))

        def ours(query: str, profile: Profile = profile) -> list[str]:
            return [item.id for item in retriever(query, profile)]

        for name, rank, query in (("loop", official, 0), ("first", ours, 0), ("second", ours, 1)):
            started = time.perf_counter()
            found = rank(queries[query])
            spent[name] += time.perf_counter() - started
            if name == "loop":
                expected = found
            elif name == "first" and found != expected:
                raise SystemExit(f"the rankings differ: {found} is not {expected}")

    for name, seconds in spent.items():
        print(f"{name}: {seconds:.2f} s for {arguments.users} users, {1000 * seconds / arguments.users:.3f} ms each")
    verdict("as fast as the loop over rank_bm25, at least", spent["loop"] / spent["first"], 1)
    verdict("a second query of a profile 10 times as fast as the first, at least", spent["first"] / spent["second"], 10)


def verdict(goal: str, ratio: float, least: float) -> None:
    print(f"{'met   ' if ratio >= least else 'MISSED'} {goal}: {ratio:.1f} times")


if __name__ == "__main__":
    main()
