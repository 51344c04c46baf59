"""Measure the embedded profile store: `python -m benchmarks.stores`, or with `--share 0.1` at a tenth of the size.

Appends go to the disk before they return. A call's overhead is the time that a program with an instant retriever's work
takes before the model is asked: reading the candidates of a history of 200,000 items, and ranking them with BM25. How
good the candidates are is the share of the four best items of the whole history that are shown; half of the queries are
items of the history with half of their words replaced. Words follow Zipf's law.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.memory import peak_bytes
from r2p_dspy import BM25, Item, Profile
from r2p_dspy.stores import Histories, SQLite

_WORDS = 30_000  # size of the vocabulary
_LENGTH = 25  # words of an item


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="Share of the full size, in (0, 1].")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=200_000, help="Items of the user with a long history.")
    parser.add_argument("--directory", type=Path, help="Where the store lies; default: a temporary directory.")
    parser.add_argument("--look-up", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look_up is not None:
        look_up(arguments.look_up, arguments.users)
        return
    directory = arguments.directory or Path(tempfile.mkdtemp())
    store = SQLite(directory / "benchmark.sqlite")
    try:
        appends(store, int(20_000 * arguments.share))
        long_history(store, int(arguments.items * arguments.share))
        many_users(store, int(arguments.users * arguments.share))
        store = SQLite(directory / "benchmark.sqlite")
        deletion(store)
    finally:
        store.close()
        if arguments.directory is None:
            shutil.rmtree(directory)


def appends(store: SQLite, count: int) -> None:
    """Append to histories of the usual length, from one caller, in batches of three sizes."""
    for size in (1, 20, 100):
        batches = count // (20 if size == 1 else 1) // size
        items = [item(number, text) for number, text in enumerate(texts(batches * size))]
        seconds = timed(
            lambda: [
                store.append(f"appending {size} {batch % 50}", items[batch * size : (batch + 1) * size])  # noqa: B023
                for batch in range(batches)  # noqa: B023
            ]
        )
        rate = batches * size / seconds
        print(f"append, {size:>3} items a call: {rate:8,.0f} items/s, {1000 * seconds / batches:.2f} ms a call")
    verdict(rate >= 5000, f"append: {rate:,.0f} items/s", "at least 5,000")


def long_history(store: SQLite, count: int) -> None:
    """A call for a user whose history is far too long to be read whole."""
    written = [*texts(count, seed=1)]
    seconds = timed(
        lambda: [
            store.append("long", [item(number, written[number]) for number in range(start, min(start + 1000, count))])
            for start in range(0, count, 1000)
        ]
    )
    print(f"history of {count:,} items, indexed: {count / seconds:,.0f} items/s")
    queries, retriever, histories = [*half_known(written)], BM25(k=4), Histories(store)
    spent, shown = [], []
    for query in queries:
        started = time.perf_counter()
        best = retriever(query, histories.read("long", query).items)
        spent.append(time.perf_counter() - started)
        shown.append({found.id for found in best})
    whole = Profile.model_construct(items=[item(number, text) for number, text in enumerate(written)], dropped=0)
    wanted = [{found.id for found in retriever(query, whole)} for query in queries[:40]]
    recall = np.mean([len(found & best) / 4 for found, best in zip(shown, wanted, strict=False)])
    print(f"of the 4 best items of the whole history, {recall:.0%} are shown")
    p50, p99 = percentiles(spent)
    verdict(
        p50 < 20, f"call for {count:,} items, before the model: p50 {p50:.1f} ms, p99 {p99:.1f} ms", "p50 under 20 ms"
    )


def many_users(store: SQLite, count: int) -> None:
    """As many users as a large service has, each with a short history; look up users at random."""
    pool = [*texts(5000, seed=2)]
    draw = np.random.default_rng(3)

    def histories() -> Iterator[tuple[str, list[Item]]]:
        for user in range(count):
            start = int(draw.integers(0, len(pool) - 20))
            yield f"user {user}", [item(number, pool[start + number]) for number in range(20)]

    seconds = timed(lambda: store.load(histories()))
    size, rate = store.path.stat().st_size, 20 * count / seconds
    print(f"{count:,} users with 20 items: {size / 1e9:.2f} GB, loaded in {seconds:,.0f} s ({rate:,.0f} items/s)")
    store.close()
    command = [sys.executable, "-m", "benchmarks.stores", "--look-up", str(store.path), "--users", str(count)]
    subprocess.run(command, check=True)


def look_up(path: Path, count: int) -> None:
    """What a process of a service does, in a process of its own: its memory is measured too."""
    reader, spent = Histories(SQLite(path)), []
    for user in np.random.default_rng(6).integers(0, count, 20_000):
        started = time.perf_counter()
        reader.read(f"user {user}", "")
        spent.append(time.perf_counter() - started)
    p50, p99 = percentiles(spent)
    verdict(p99 < 5, f"look-up among {count:,} users: p50 {p50:.2f} ms, p99 {p99:.2f} ms", "p99 under 5 ms")
    memory = peak_bytes() / (1 << 20)
    verdict(memory < 400, f"memory of the process that looks up: {memory:,.0f} MB", "under 400 MB")


def deletion(store: SQLite) -> None:
    """Forget a user: the whole file is rewritten."""
    size = store.path.stat().st_size
    seconds = timed(lambda: store.delete_user("long"))
    print(f"delete_user in a store of {size / 1e9:.2f} GB: {seconds:.1f} s")


def texts(count: int, seed: int = 0) -> Iterator[str]:
    """Yield texts."""
    draw = np.random.default_rng(seed)
    shares = 1 / np.arange(1, _WORDS + 1)
    bounds = np.cumsum(shares / shares.sum())
    for start in range(0, count, 10_000):
        drawn = np.searchsorted(bounds, draw.random((min(10_000, count - start), _LENGTH)))
        yield from (" ".join(f"w{number}" for number in row) for row in drawn.tolist())


def half_known(written: list[str], count: int = 200) -> Iterator[str]:
    """Yield queries: half new texts, half items with every second word replaced."""
    draw, new = np.random.default_rng(4), [*texts(count, seed=5)]
    for number, text in enumerate(new):
        known = written[int(draw.integers(0, len(written)))].split()
        yield " ".join(known[::2] + text.split()[::2]) if number % 2 else text


def item(number: int, text: str) -> Item:
    return Item(id=str(number), fields={"text": text}, date=f"{2000 + number % 25}-0{1 + number % 9}-01")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    return float(p50), float(p99)


def verdict(met: bool, what: str, goal: str) -> None:
    print(f"{'met   ' if met else 'MISSED'} {what} (goal: {goal})")


if __name__ == "__main__":
    main()
