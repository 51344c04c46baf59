"""Measure how long the command line and the library take to start: `python -m benchmarks.startup`."""

import subprocess
import sys
import time

_RUNS = 5


def fastest(*arguments: str) -> float:
    """Return the shortest wall time of five runs of a Python command, in seconds."""
    times = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    empty = fastest("-c", "pass")
    for name, limit, arguments in (
        ("python cli.py --help", 0.5, ("cli.py", "--help")),
        ("import r2p_dspy", 1.2, ("-c", "import r2p_dspy")),
        ("import dspy (part of the above)", None, ("-c", "import dspy")),
    ):
        seconds = fastest(*arguments)
        goal = f", goal {limit:.1f} s" if limit else ""
        print(f"{name}: {seconds:.2f} s (python itself {empty:.2f} s{goal})")
    torch = subprocess.run(
        [sys.executable, "-c", "import r2p_dspy, sys; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    print(f"import r2p_dspy imports torch: {torch.stdout.strip()}")


if __name__ == "__main__":
    main()
