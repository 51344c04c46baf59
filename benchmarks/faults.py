"""Runs commands against servers that fail: `python -m benchmarks.faults --threads 64 --commands predict`.

Each run is a process of its own, with `--timeout 3`, whose server has one fault at every call. Rows of `20 % FAULT`
have a server that answers the other calls, with `--max-failures 0.5` where the command has it. A run meets its bounds if

- it ends by itself, and never takes longer than the deadline and ten seconds without an answer of the server: from the
  first request or the last answer to the next answer or the end of the process (column "silent");
- it ends with exit code 2 and one line, or with 0 or 3, every row answered or failed with its reason, and without a
  traceback;
- its process never takes more than 600 MB (its peak resident memory).

The users are persona users (synthetic).
"""

import itertools
import json
import os
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
from tests.faulty import FAULTS, FaultyServer

DEADLINE, GRACE, MOST_MB = 8.0, 7.0, 600
MIXED = tuple(f"20 % {fault}" for fault in ("hang", "endless"))
ROWS = {"predict": 150, "evaluate": 40, "compile": 24}
_PATIENCE = 240.0  # seconds until a run is killed
_CHECKOUT = Path(__file__).parents[1]


class Clock:
    """The fault of each request of a server, and when requests came and answers went."""

    def __init__(self, fault: str) -> None:
        self.share, self.fault = (5, fault.removeprefix("20 % ")) if fault in MIXED else (1, fault)
        self.moments = list[float]()  # of the first request, then of each answer

    def __call__(self, number: int) -> str:
        fault = self.fault if number % self.share == self.share - 1 else ""
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


def run(command: str, fault: str, threads: int, folder: Path) -> Ended:
    """Run a command in a process of its own against a server with a fault, and look at what it leaves."""
    clock = Clock(fault)
    with FaultyServer(clock, text=citing) as server, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            line_of(command, fault, threads, folder, server.api_base), cwd=_CHECKOUT, stdout=log, stderr=log
        )
        killer = threading.Timer(_PATIENCE, process.kill)
        killer.start()
        began = time.monotonic()
        # Of this one child; it counts from our own size at the fork, which is smaller.
        _, status, usage = os.wait4(process.pid, 0)
        end = time.monotonic()
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
    outcome, flaws = judge(command, fault, process.returncode, folder)
    silent, megabytes = clock.silent(end), usage.ru_maxrss / 1e3
    flaws += [f"silent for {silent:.0f} s"] * (silent > DEADLINE + GRACE)
    flaws += [f"{megabytes:.0f} MB"] * (megabytes > MOST_MB)
    return Ended(process.returncode, outcome, tuple(flaws), end - began, silent, megabytes)


def line_of(command: str, fault: str, threads: int, folder: Path, api_base: str) -> list[str]:
    """The command line of a run in a folder."""
    own = ["--limit", str(ROWS[command]), "--output", str(folder / "run")]
    if command == "predict":
        rows = write_rows(folder / "users.jsonl", ROWS[command])
        own = ["--input", str(rows), "--output", str(folder / "answers.jsonl")]
    elif fault in MIXED:
        own += ["--max-failures", "0.5"]
    model = ["--model", "openai/m", "--api-base", api_base, "--timeout", f"{DEADLINE:g}", "--num-threads", str(threads)]
    return [sys.executable, "cli.py", command, *own, *model]


def judge(command: str, fault: str, code: int, folder: Path) -> tuple[str, list[str]]:
    """What a run came to in words, and what of it has no defined outcome."""
    said = (folder / "log").read_text(errors="replace")
    flaws = ["a traceback"] * ("Traceback" in said)
    if code == 2:
        errors = [line for line in said.splitlines() if line.startswith("Error: ")]
        flaws += ["no line that says why"] * (len(errors) != 1) + ["it stopped"] * (fault in MIXED)
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


def campaign(faults: Sequence[str], commands: Sequence[str], threads: Sequence[int]) -> Iterator[tuple[str, bool]]:
    """Run every command against every fault; a line of the table for each, and whether it met its bounds."""
    yield f"{'fault':<16} {'command':<8} threads  exit  seconds  silent   MB           outcome", True
    for fault, command, count in itertools.product(faults, commands, threads):
        with tempfile.TemporaryDirectory() as folder:
            ended = run(command, fault, count, Path(folder))
        verdict = f"MISSED ({', '.join(ended.flaws)})" if ended.flaws else "met"
        figures = f"{ended.code:>5} {ended.seconds:>8.1f} {ended.silent:>7.1f} {ended.megabytes:>4.0f}"
        yield f"{fault:<16} {command:<8} {count:>7} {figures}  {verdict:<10} {ended.outcome[:150]}", not ended.flaws


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
def main(threads: str, commands: list[str], faults: list[str]) -> None:
    began, runs = time.monotonic(), list[bool]()
    for line, met in campaign(faults, commands, [int(count) for count in threads.split(",")]):
        click.echo(line)
        runs.append(met)
    missed = runs.count(False)
    minutes = (time.monotonic() - began) / 60
    click.echo(f"{'MISSED' if missed else 'met   '} {len(runs) - 1} runs in {minutes:.1f} min, {missed} missed their bounds")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
