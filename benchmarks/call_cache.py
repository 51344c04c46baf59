"""Measure the call cache, its room on disk and its time, for short and long answers: `python -m benchmarks.call_cache`.

An answer is as long as one of the pocket model's (about 130 words), or as one with a long thought (about 1,500 words),
of words that are drawn as often as English has them. `text` is what the answers alone take.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from programs.calls.cache import Call, CallCache, Usage
from programs.data.personas.words import VOCABULARY

_SHAPE = "[[ ## requirements ## ]]\n{}\n\n[[ ## evidence ## ]]\n{}\n\n[[ ## tag ## ]]\n{}\n\n[[ ## completed ## ]]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    arguments = parser.parse_args()
    for name, words in (("short", 130), ("long", 1_500)):
        with tempfile.TemporaryDirectory() as folder:
            measure(name, answers(arguments.calls, words), Path(folder))


def measure(name: str, texts: list[str], folder: Path) -> None:
    """Store the answers, read them back, and print what that took."""
    cache, usage = CallCache(folder, run="0" * 32), Usage(1, 900, 200, 0.001, 1.5)
    tracked = {"prompt_tokens": 900, "completion_tokens": 200, "total_tokens": 1100}
    began = time.perf_counter()
    for number, text in enumerate(texts):
        cache.put(f"{number:064x}", "openai/gpt-4o-mini", Call([text], tracked, usage))
    stored = time.perf_counter()
    for number in range(len(texts)):
        cache.get(f"{number:064x}")
    read = time.perf_counter()
    cache.close()
    size, plain = cache.path.stat().st_size, sum(len(text.encode()) for text in texts)
    print(
        f"{name}: text {plain / 1e6:.1f} MB, on disk {size / 1e6:.1f} MB ({size / plain:.2f} of it); "
        f"put {(stored - began) / len(texts) * 1e6:.0f} µs, get {(read - stored) / len(texts) * 1e6:.0f} µs a call"
    )


def answers(count: int, words: int) -> list[str]:
    """Texts of about so many words in the shape of an answer, each drawn anew."""
    draw = random.Random(0)
    known = sorted({word for text in _texts(VOCABULARY) for word in text.split()})
    weights = [1 / (rank + 1) for rank in range(len(known))]
    parts = [draw.choices(known, weights, k=words) for _ in range(count)]
    return [_SHAPE.format(" ".join(part[: words // 2]), " ".join(part[words // 2 :]), part[0]) for part in parts]


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inner for text in _texts(part)]


if __name__ == "__main__":
    main()
