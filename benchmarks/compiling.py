"""Measure where `compile` spends its time, a second run, and its budgets: `python -m benchmarks.compiling`.

The pocket model compiles a program for persona users (synthetic), with 16 calls in flight. Time inside the model is
what its thread spends on forward passes and on choosing tokens.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from programs.optimize.run import run_compile
from programs.runs.configs import CompileConfig
from programs.runs.reporter import Reporter
from r2p_dspy.engines.local.batching import Batcher

_THREADS = 16


class MethodTimer:
    """Sums the seconds that the model's thread spends in some of its methods."""

    def __init__(self, *methods: str):
        self.seconds = 0.0
        for name in methods:
            setattr(Batcher, name, self._timed(getattr(Batcher, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def goal(met: bool, text: str) -> None:
    print(f"{'met   ' if met else 'MISSED'} {text}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=60, help="examples that are reported on")
    parser.add_argument("--optimizer", default="random")
    arguments = parser.parse_args()
    folder, flags = Path(tempfile.mkdtemp()), ("--limit", str(arguments.limit), "--optimizer", arguments.optimizer)
    config = CompileConfig.of(task="lamp2", limit=arguments.limit, optimizer=arguments.optimizer, num_threads=_THREADS)
    lm = config.connect()  # loads the model before the clock starts
    timer, started = MethodTimer("_prefill", "_step"), time.perf_counter()
    first = run_compile(config, folder / "first", False, Reporter())
    seconds = time.perf_counter() - started
    paid = first["calls"]["spent"]["calls"]
    share = timer.seconds / seconds
    print(f"{paid} calls of {lm.model} in {seconds:.0f} s, {timer.seconds:.0f} s of them inside the model")
    goal(share >= 0.85, f"at least 85 % of the time inside the model: {100 * share:.1f} %")

    started = time.perf_counter()
    again = _command(folder / "again", *flags)
    seconds = time.perf_counter() - started
    calls = again["calls"]
    goal(calls["spent"]["calls"] == 0, f"no call in a second run: {calls['spent']['calls']} calls, "
         f"{calls['replayed']['calls']} replayed")  # fmt: skip
    goal(seconds < 20, f"a second run under 20 s, starting Python included: {seconds:.1f} s")
    same = all(again["programs"][name]["metrics"] == first["programs"][name]["metrics"] for name in first["programs"])
    goal(same, "and the same results")

    for most in (paid // 4, 3 * paid // 4):
        calls = _command(folder / f"calls-{most}", *flags, "--max-calls", most, "--no-cache")["calls"]
        goal(calls["spent"]["calls"] <= most, f"--max-calls {most}: {calls['spent']['calls']} calls")
    most = sum(first["calls"]["spent"]["tokens"].values()) // 2
    calls = _command(folder / "tokens", *flags, "--max-tokens", most, "--no-cache")["calls"]["spent"]
    tokens, mean = sum(calls["tokens"].values()), sum(calls["tokens"].values()) / calls["calls"]
    goal(tokens <= most + 3 * _THREADS * mean, f"--max-tokens {most}: {tokens} tokens, a call took {mean:.0f}")


def _command(output: Path, *options: object) -> dict[str, Any]:
    subprocess.run(
        [sys.executable, "cli.py", "compile", *map(str, options), "--output", str(output)],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return json.loads((output / "report.json").read_text())


if __name__ == "__main__":
    main()
