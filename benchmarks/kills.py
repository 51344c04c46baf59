"""Kills commands at random moments and compares what they leave: `python -m benchmarks.kills predict:100 evaluate:20`.

Each command asks a server on this machine that answers after 50 ms and keeps every request. A command is run once
undisturbed. Then it is killed (SIGKILL) at a random moment and resumed, again and again, until it ends; then the next
run begins, until there were as many kills as wanted. Half of the moments are drawn from the time that a run takes, half
from the requests that it still has to make. What is compared: the results, without what the clock decides, and the
requests that were sent more often than in the undisturbed run. The users are persona users (synthetic).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.answering import citing, write_rows
from programs.data.personas import films
from programs.data.personas.world import draw, lamp_files
from programs.tasks import lamp2
from r2p_dspy.files import digest
from tests.faulty import FaultyServer

THREADS, CANDIDATES = 8, 3
SECONDS = 0.05  # until the server answers
OPTIONS = {  # what makes a command long enough to be killed within, and short enough to be killed often
    "predict": [],
    "evaluate": ["--limit", "40"],
    "compile": ["--limit", "24"],
    "finetune": f"--method sft --candidates {CANDIDATES} --limit 8 --batch 1 --every 2 --tokens 48".split(),
}
_ROWS = 150  # of the input of `predict`
_USERS = 10  # for `finetune` to report on, and to train on
_CLOCK = ("seconds", "latency", "seconds_per_answer", "date")  # what time decides, in rows and in reports
_FINE = (0, 3)  # exit codes of a run that has ended: done, and done with failed rows


def say(body: dict[str, Any]) -> str:
    """An answer that cites the first item of the prompt, in the format of every program of the command line."""
    time.sleep(SECONDS)
    return citing(body)


class Command:
    """A command with its results: how to begin it, how to resume it, and what of it must not depend on kills.

    Args:
        name: of the command.
        folder: an empty one, for its output and its log.
        source: the input of `predict`, and the data of `finetune`: of the persona world it takes more than is needed.
        api_base: the address of the server.
        options: of the command.
    """

    def __init__(self, name: str, folder: Path, source: Path, api_base: str, options: list[str]):
        self.name, self.folder = name, folder
        self.output = folder / ("answers.jsonl" if name == "predict" else "run")
        self._record = folder / ("answers.run.json" if name == "predict" else "run/config.json")
        given = {"predict": ["--input", str(source)], "finetune": ["--data", str(source)]}.get(name, []) + options
        served = ["--model", "openai/m", "--api-base", api_base, "--lm", "num_retries=0"]
        own = ["--num-threads", str(THREADS), "--output", str(self.output)]
        self.line = [sys.executable, "cli.py", name, *given, *served, *own]

    def start(self) -> subprocess.Popen:
        """Begin the command, or resume it if it has begun."""
        resume = ["--resume"] if self._record.exists() else []
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*self.line, *resume], stdout=log, stderr=log, env={**os.environ, "OPENAI_API_KEY": "x"}
            )

    @property
    def finished(self) -> bool:
        """Whether the report is there, after which nothing can be resumed."""
        return (self.output / "report.json").exists()

    def results(self) -> Any:
        """What the command came to, without what the clock decides."""
        if self.name == "predict":
            return self.output.read_bytes()
        report = timeless(json.loads((self.output / "report.json").read_text()))
        if self.name == "compile":
            return report["programs"], json.loads((self.output / "program.json").read_text())["predictors"]
        if self.name == "finetune":
            weights = digest(self.output / "model" / "model.safetensors")
            return report["tasks"], report["trainings"], report["kept"], weights
        return report["programs"], report["differences"]

    def answered(self) -> set[str]:
        """The whole lines of results that stand on disk, without what the clock decides."""
        files = [self.output, *self.output.glob("results/**/*.jsonl"), *self.output.glob("traces/lamp*.jsonl")]
        lines = (line for path in files if path.is_file() for line in path.read_text().splitlines(keepends=True))
        whole = (json.loads(line) for line in lines if line.endswith("\n"))
        return {json.dumps(timeless(row), sort_keys=True) for row in whole}

    def end_of_log(self) -> str:
        """The last lines that the command wrote."""
        return (self.folder / "log").read_text()[-800:]


def lamp_directory(count: int, path: Path) -> Path:
    """Write the files of LaMP that hold twice so many users to train on as to report on."""
    path.mkdir()
    for split, role, users in (("train", "train", 2 * count), ("dev", "test", count)):
        files = lamp_files(lamp2.TASK, draw(films.case, role, users))
        for kind, content in zip(("questions", "outputs"), files, strict=True):
            (path / f"{split}_{kind}.json").write_text(json.dumps(content))
    return path


def timeless(value: Any) -> Any:
    """A part of a report or a row without what the clock decides."""
    if isinstance(value, dict):
        return {key: timeless(part) for key, part in value.items() if key not in _CLOCK}
    return [timeless(part) for part in value] if isinstance(value, list) else value


@dataclass
class Tally:
    """What kills did."""

    kills: int = 0
    amid: int = 0  # kills of a process that had sent requests
    runs: int = 0
    different: int = 0  # runs with other results than the undisturbed one
    lost: int = 0  # rows that stood on disk at a kill, and not at the end
    again: int = 0  # requests that were sent again
    excess: int = 0  # runs in which more of them were sent again than can have been in flight at its kills
    most: float = 0.0  # requests that were sent again, for each kill of a run

    @property
    def met(self) -> bool:
        """Whether the goal is reached."""
        return not (self.different or self.lost or self.excess)


class Campaign:
    """Kills one command again and again.

    Args:
        name: of the command.
        options: of the command.
        draws: decide the moments.
        rows: of the input of `predict`.

    Attributes:
        folder: where all runs are.
        in_flight: the most calls at a time.
        takes: seconds of the undisturbed run.
        tally: what is known so far.

    Raises:
        RuntimeError: for a command that fails, undisturbed or resumed.
    """

    def __init__(self, name: str, options: list[str], server: FaultyServer, draws: random.Random, rows: int = _ROWS):
        self._name, self._options, self._server, self._draws = name, options, server, draws
        self.in_flight = THREADS * (CANDIDATES if name == "finetune" else 1)  # candidates are sampled side by side
        self.folder = Path(tempfile.mkdtemp(prefix="kills-"))
        if name == "finetune":
            self._source = lamp_directory(_USERS, self.folder / "lamp")
        else:
            self._source = write_rows(self.folder / "rows.jsonl", rows)
        self.tally = Tally()
        began, command = time.monotonic(), self._command()
        self._check(command, command.start().wait())
        self.takes = time.monotonic() - began
        self._wanted, self._sent = command.results(), self._requests(0)

    def kill(self, kills: int, by_clock: float = 0.5) -> Iterator[Tally]:
        """Kill the command so often in all; yields what is known after each run. `by_clock` is the share of moments
        that are drawn from the time, not from the requests.
        """
        while self.tally.kills < kills:
            since, command, before = len(self._server.requests), self._command(), self.tally.kills
            kept: set[str] = set()
            while self._is_killed(command, since, kills, by_clock):
                kept |= command.answered()
                if command.finished:
                    break
            again = sum((self._requests(since) - self._sent).values())
            in_run, different = self.tally.kills - before, command.results() != self._wanted
            self.tally.runs += 1
            self.tally.again += again
            self.tally.excess += again > in_run * self.in_flight
            self.tally.most = max(self.tally.most, again / max(in_run, 1))
            self.tally.different += different
            self.tally.lost += (lost := len(kept - command.answered()))
            if not different and not lost:
                shutil.rmtree(command.folder)
            yield self.tally

    def close(self) -> None:
        """Remove all files, unless the goal is missed: then the runs that differ are left to look at."""
        if self.tally.met:
            shutil.rmtree(self.folder)

    def _is_killed(self, command: Command, since: int, kills: int, by_clock: float) -> bool:
        """Start the command, and kill it if it has not ended before; the last runs are left alone."""
        server, start = self._server, len(self._server.requests)
        moment = self._moment(since, by_clock) if self.tally.kills < kills else lambda: False
        process = command.start()
        while (code := process.poll()) is None and not moment():
            time.sleep(0.002)
        if code is None:
            process.kill()
            code = process.wait()
        if code != -signal.SIGKILL:
            self._check(command, code)
            return False
        self.tally.kills += 1
        self.tally.amid += len(server.requests) > start
        return True

    def _moment(self, since: int, by_clock: float) -> Callable[[], bool]:
        """A function that says whether the moment of a kill has come."""
        missing = sum((self._sent - self._requests(since)).values())
        if not missing or self._draws.random() < by_clock:
            ends = time.monotonic() + self._draws.uniform(0.1, self.takes)
            return lambda: time.monotonic() >= ends
        count = len(self._server.requests) + self._draws.randint(1, missing)
        return lambda: len(self._server.requests) >= count

    def _command(self) -> Command:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return Command(self._name, folder, self._source, self._server.api_base, self._options)

    def _requests(self, since: int) -> Counter[str]:
        return Counter(json.dumps(body, sort_keys=True) for body in self._server.requests[since:])

    @staticmethod
    def _check(command: Command, code: int) -> None:
        if code not in _FINE:
            raise RuntimeError(f"{' '.join(command.line)} ended with {code}: {command.end_of_log()}")


@click.command(help=__doc__)
@click.argument("campaigns", nargs=-1, metavar="COMMAND:KILLS…")
@click.option("--seed", default=0, show_default=True, help="Decide the moments of the kills.")
@click.option("--verbose", is_flag=True, help="Say what is known after each run.")
def main(campaigns: tuple[str, ...], seed: int, verbose: bool) -> None:
    for each in campaigns or ("predict:100", "compile:40", "evaluate:20", "finetune:10"):
        name, _, kills = each.partition(":")
        began = time.monotonic()
        with FaultyServer(text=say) as server:
            campaign = Campaign(name, OPTIONS[name], server, random.Random(seed))
            for tally in campaign.kill(int(kills)):
                if verbose:
                    click.echo(f"{time.monotonic() - began:6.0f} s {tally}")
        tally, took = campaign.tally, time.monotonic() - began
        campaign.close()
        goal = "met   " if tally.met else f"MISSED (see {campaign.folder})"
        click.echo(
            f"{goal} {name}: {tally.kills} kills ({tally.amid} amid calls) in {tally.runs} runs of "
            f"{campaign.takes:.0f} s, {took:.0f} s in all\n"
            f"       results that differ: {tally.different}; answered rows lost: {tally.lost}\n"
            f"       requests sent again: {tally.again}, at most {tally.most:.1f} for each kill of a run "
            f"({campaign.in_flight} are in flight)"
        )


if __name__ == "__main__":
    main()
