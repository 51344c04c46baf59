"""How much memory a big questions file takes: `python -m benchmarks.data`.

Writes a file of task 3 in LaMP's format (synthetic), then measures the peak memory of what streams it, each time in a
process of its own, beside that of importing alone.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

_ITEMS = 185  # a row, as in LaMP-3


def write(folder: Path, megabytes: float) -> int:
    """A questions file of about that size and its golds; returns how many rows they have."""
    from programs import lamp3

    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]
    golds: list[dict[str, str]] = []
    with (folder / "dev_questions.json").open("w") as file:
        file.write("[")
        while file.tell() < megabytes * 1e6:
            number = len(golds)
            items = [
                {"id": f"{number}-{n}", "text": " ".join(rng.choices(words, k=90)), "score": str(rng.randint(1, 5))}
                for n in range(_ITEMS)
            ]
            asked = lamp3.TASK.wording(" ".join(rng.choices(words, k=90)))
            file.write(",\n" * bool(number) + json.dumps({"id": str(number), "input": asked, "profile": items}))
            golds.append({"id": str(number), "output": str(rng.randint(1, 5))})
        file.write("]")
    (folder / "dev_outputs.json").write_text(json.dumps({"task": "LaMP_3", "golds": golds}))
    return len(golds)


def measure(what: str, folder: Path) -> None:
    """Print the seconds and the peak memory of one way to read the files, imports included."""
    started = time.perf_counter()
    from programs import lamp3
    from programs.lamp.check import Check
    from programs.lamp_data import load

    if what == "load(limit=100)":
        load(lamp3.TASK, folder, "dev", limit=100)
    elif what == "load()":
        load(lamp3.TASK, folder, "dev")
    elif what == "data check":
        flaws = len(list(Check(folder)))
        assert not flaws
    seconds = time.perf_counter() - started
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    click.echo(f"{what:<20}{seconds:8.1f} s{peak:8.0f} MB at the peak")


@click.command()
@click.option("--megabytes", default=300.0, show_default=True, type=click.FloatRange(1), help="Size of the file.")
@click.option("--whole", is_flag=True, help="Also load it whole, which holds all its examples.")
@click.option("--part", nargs=2, hidden=True)
def main(megabytes: float, whole: bool, part: tuple[str, str] | None) -> None:
    """Print seconds and peak memory of reading a questions file of MEGABYTES."""
    if part:
        return measure(part[0], Path(part[1]))
    with tempfile.TemporaryDirectory() as name:
        rows = write(Path(name), megabytes)
        size = (Path(name) / "dev_questions.json").stat().st_size
        click.echo(f"{'the file':<20}{rows:8d} rows{size / (1 << 20):5.0f} MB")
        for what in ("importing alone", "load(limit=100)", "data check", *(["load()"] if whole else [])):
            subprocess.run([sys.executable, "-m", "benchmarks.data", "--part", what, name], check=True)


if __name__ == "__main__":
    main()
