"""Measure the memory that large questions files take: `python -m benchmarks.data`.

It writes synthetic files of task 3 in LaMP's format, in two sizes. Then it measures the peak memory of each way to read
them, each in its own process, and that of the imports alone.
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

_ITEMS = 185  # in a row, as in LaMP-3


def write(folder: Path, split: str, megabytes: float) -> int:
    """Write a questions file of about this size, and its golds. Return the number of rows."""
    from programs.tasks import lamp3

    rng = random.Random(split)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]
    golds: list[dict[str, str]] = []
    with (folder / f"{split}_questions.json").open("w") as file:
        file.write("[")
        while file.tell() < megabytes * 1e6:
            number = len(golds)
            items = [
                {
                    "id": f"{split}-{number}-{n}",
                    "text": " ".join(rng.choices(words, k=90)),
                    "score": str(rng.randint(1, 5)),
                }
                for n in range(_ITEMS)
            ]
            text = lamp3.TASK.wording(" ".join(rng.choices(words, k=90)))
            file.write(",\n" * bool(number) + json.dumps({"id": f"{split}-{number}", "input": text, "profile": items}))
            golds.append({"id": f"{split}-{number}", "output": str(rng.randint(1, 5))})
        file.write("]")
    (folder / f"{split}_outputs.json").write_text(json.dumps({"task": "LaMP_3", "golds": golds}))
    return len(golds)


def measure(what: str, folder: Path) -> None:
    """Print the CPU seconds and the peak memory of one way to read the files, imports included."""
    from programs.data import dataset as data
    from programs.data.lamp.check import FolderCheck
    from programs.data.lamp.reading import iter_examples
    from programs.evaluate.baselines import trivial_baselines
    from programs.tasks import lamp3

    if what == "load(limit=100)":
        list(iter_examples(lamp3.TASK, folder, "dev", limit=100))
    elif what == "load()":
        list(iter_examples(lamp3.TASK, folder, "dev"))
    elif what == "data check":
        assert not list(FolderCheck(folder))
    elif what.startswith("evaluate"):
        found = data.lamp(lamp3.TASK, folder, data.DataConfig())
        if what == "evaluate: baselines":
            trivial_baselines(lamp3.TASK, found.test, found.train)
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    click.echo(f"{what:<20}{time.process_time():8.1f} s{peak:8.0f} MB at the peak")


@click.command()
@click.option("--megabytes", default=300.0, show_default=True, type=click.FloatRange(1), help="Set the files' size.")
@click.option("--whole", is_flag=True, help="Also load all of dev into memory.")
@click.option("--part", nargs=2, hidden=True)
def main(megabytes: float, whole: bool, part: tuple[str, str] | None) -> None:
    """Print the seconds and peak memory of reading train and dev, of MEGABYTES together and of a third of that."""
    if part:
        return measure(part[0], Path(part[1]))
    for size in (megabytes / 3, megabytes):
        with tempfile.TemporaryDirectory() as name:
            rows = write(Path(name), "train", size / 2) + write(Path(name), "dev", size / 2)
            click.echo(f"{'train and dev':<20}{rows:8d} rows{size:5.0f} MB")
            parts = ["importing alone", "load(limit=100)", "data check", "evaluate: data", "evaluate: baselines"]
            for what in [*parts, *(["load()"] if whole else [])]:
                subprocess.run([sys.executable, "-m", "benchmarks.data", "--part", what, name], check=True)


if __name__ == "__main__":
    main()
