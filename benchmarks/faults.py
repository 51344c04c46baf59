"""Runs commands against servers that fail: `python -m benchmarks.faults --threads 64 --commands predict`.

Each run is a process of its own, whose server has one fault at every call. The server of `20 % hang` answers four of
five calls, and `--max-failures 0.5` lets the run finish. A run meets its bounds if

- it ends by itself, and is never longer without an answer of its server than the deadline and ten seconds: from the
  first request, or an answer, to the next answer, or to the end of the process, the report included (column "silent").
  If no call is answered, it has seven seconds, in which a second deadline, of eight, cannot hide;
- it ends with exit code 2 and one line that says why, or with 0 or 3 and every row answered or failed with its reason,
  and without a traceback. While its server answers other calls, a run must not stop with 2, but for a compile that
  has no dev example left which every candidate answered;
- its process never has more than 600 MB in memory.

Times hold on a machine that does nothing else. The users are persona users (synthetic).
"""

import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.answering import citing, write_rows
from benchmarks.memory import peak_bytes
from tests.faulty import FAULTS, FaultyServer

DEADLINE, MOST_MB = 8.0, 600
# Every n-th call has the fault.
MIXED = {"20 % hang": (5, "hang"), "2 % hang": (50, "hang"), "20 % endless": (5, "endless")}
ROWS = {"predict": 150, "evaluate": 40, "compile": 24}
_PATIENCE = 240.0  # seconds until a run is killed
_CHECKOUT = Path(__file__).parents[1]


class Clock:
    """The fault of each request of a server, and when requests came and answers went."""

    def __init__(self, fault: str) -> None:
        self.every, self.fault = MIXED.get(fault, (1, fault))
        self.moments = list[float]()  # of the first request, then of each answer

    def __call__(self, number: int) -> str:
        fault = self.fault if number % self.every == self.every - 1 else ""
        if not self.moments or not fault:
            self.moments.append(time.monotonic())
        return fault

    def silent(self, end: float) -> float:
        """The most seconds without an answer; 0 for a run without a request."""
        return max((later - earlier for earlier, later in itertools.pairwise([*self.moments, end])), default=0.0)


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    outcome: str
    flaws: tuple[str, ...]  # which bounds it missed
    seconds: float
    silent: float
    megabytes: float


def run(command: str, fault: str, threads: int, folder: Path, deadline: float = DEADLINE) -> Ended:
    """Run a command in a process of its own against a server with a fault, and look at what it leaves in a folder."""
    clock = Clock(fault)
    with FaultyServer(clock, text=citing) as server, (folder / "log").open("wb") as log:
        asked = ["--model", "openai/m", "--api-base", server.api_base, "--timeout", str(deadline)]
        asked += ["--num-threads", str(threads)]
        process = subprocess.Popen(
            [sys.executable, "cli.py", *line_of(command, fault, folder), *asked], cwd=_CHECKOUT, stdout=log, stderr=log
        )
        killer = threading.Timer(_PATIENCE, process.kill)
        killer.start()
        began = time.monotonic()
        megabytes = 0.0
        while process.poll() is None:
            megabytes = max(megabytes, 1e-6 * peak_bytes(process.pid))
            time.sleep(0.02)
        end = time.monotonic()
        killer.cancel()
    outcome, flaws = judge(command, fault, process.returncode, folder)
    silent = clock.silent(end)
    flaws += [f"silent for {silent:.0f} s"] * (silent > deadline + (10 if fault in MIXED else 7))
    flaws += [f"{megabytes:.0f} MB"] * (megabytes > MOST_MB)
    return Ended(process.returncode, outcome, tuple(flaws), end - began, silent, megabytes)


def line_of(command: str, fault: str, folder: Path) -> list[str]:
    """A command with its rows and its results in a folder."""
    if command == "predict":
        rows = write_rows(folder / "users.jsonl", ROWS[command])
        return [command, "--input", str(rows), "--output", str(folder / "answers.jsonl")]
    share = ["--max-failures", "0.5"] if fault in MIXED else []
    return [command, "--limit", str(ROWS[command]), "--output", str(folder / "run"), *share]


def judge(command: str, fault: str, code: int, folder: Path) -> tuple[str, list[str]]:
    """What a run came to in words, and what of it has no defined outcome."""
    said = (folder / "log").read_text(errors="replace")
    flaws = ["a traceback"] * ("Traceback" in said)
    if code == 2:
        errors = [line for line in said.splitlines() if line.startswith("Error: ")]
        flaws += ["no line that says why"] * (len(errors) != 1)
        # If a fifth of the calls fails, there may be no dev example left on which a compile can compare all candidates.
        if fault in MIXED and not (command == "compile" and "--resume" in said):
            flaws.append("it stopped")
        return errors[-1] if errors else "", flaws
    if code not in (0, 3):
        return said[-200:], [*flaws, f"exit code {code}"]
    answered, failed = _results(command, folder)
    if any(not row["error"] for row in failed):
        flaws.append("a failed row without a reason")
    if (code == 3) != bool(failed):
        flaws.append(f"exit code {code} with {len(failed)} failed rows")
    if command == "predict" and answered + len(failed) != ROWS[command]:
        flaws.append("rows are missing")
    causes = Counter(row.get("cause") or row.get("failed") for row in failed)
    why = ", ".join(f"{count} {cause}" for cause, count in causes.items())
    return f"{answered} answered, {len(failed)} failed{f' ({why})' if why else ''}", flaws


def _results(command: str, folder: Path) -> tuple[int, list[dict[str, Any]]]:
    """The number of answered rows, and the failed rows."""
    if command == "predict":
        return len(_lines(folder / "answers.jsonl")), _lines(folder / "answers.failed.jsonl")
    json.loads((folder / "run/report.json").read_text())
    rows = [row for path in folder.glob("run/results/*.jsonl") for row in _lines(path)]
    return sum(not row["failed"] for row in rows), _lines(folder / "run/failed.jsonl")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def campaign(
    faults: Sequence[str], commands: Sequence[str], threads: Sequence[int], deadline: float = DEADLINE
) -> Iterator[tuple[str, Ended]]:
    """Run every command against every fault; a line of the table for each, and how it ended."""
    for fault, command, count in itertools.product(faults, commands, threads):
        with tempfile.TemporaryDirectory() as folder:
            ended = run(command, fault, count, Path(folder), deadline)
        verdict = f"MISSED ({', '.join(ended.flaws)})" if ended.flaws else "met"
        figures = f"{ended.code:>5} {ended.seconds:>8.1f} {ended.silent:>7.1f} {ended.megabytes:>4.0f}"
        yield f"{fault:<12} {command:<8} {count:>7} {figures}  {verdict:<6}  {ended.outcome[:120]}", ended


def _choice(names: Sequence[str]) -> Any:
    def read(context: click.Context, option: click.Parameter, value: str) -> list[str]:
        given = value.split(",")
        if unknown := sorted({*given} - {*names}):
            raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(names)}")
        return given

    return {"callback": read, "default": ",".join(names), "metavar": "NAME,…"}


@click.command(help=__doc__)
@click.option("--threads", default="16,64", show_default=True, metavar="N,…")
@click.option("--commands", **_choice(tuple(ROWS)))
@click.option("--faults", **_choice((*FAULTS, *MIXED)))
@click.option("--timeout", default=DEADLINE, show_default=True, metavar="SECONDS", help="The deadline of each call.")
def main(threads: str, commands: list[str], faults: list[str], timeout: float) -> None:
    began, runs = time.monotonic(), list[Ended]()
    click.echo(f"{'fault':<12} {'command':<8} threads  exit  seconds  silent   MB  bounds  outcome")
    for line, ended in campaign(faults, commands, [int(count) for count in threads.split(",")], timeout):
        click.echo(line)
        runs.append(ended)
    missed = sum(bool(ended.flaws) for ended in runs)
    most = f"{max(ended.silent for ended in runs):.1f} s silent, {max(ended.megabytes for ended in runs):.0f} MB"
    click.echo(
        f"{'MISSED' if missed else 'met   '} {len(runs)} runs in {(time.monotonic() - began) / 60:.1f} min, "
        f"{missed} missed a bound; at most {most}"
    )
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
