"""Kills commands at random moments and compares what they leave: `python -m benchmarks.kills predict:100 evaluate:20`.

Each command asks a server on this machine that answers after 50 ms and keeps every request. A command is run once
undisturbed. Then it is killed (SIGKILL) at a random moment and resumed, again and again, until it ends; then the next
run begins, until there were as many kills as wanted. What is compared: the results, and the requests that were sent
more often than in the undisturbed run. The users are persona users (synthetic).
"""

import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from benchmarks.overhead import _ANSWER
from programs.data.personas import films
from programs.data.personas.world import draw, lamp_files
from programs.tasks import lamp2
from tests.faulty import FaultyServer

THREADS = 8
SECONDS = 0.05  # until the server answers
_ITEM = re.compile(r'^\{"item": "1".*$', re.MULTILINE)
_CLOCK = ("seconds", "latency", "seconds_per_answer", "started", "made", "calls", "plan", "plots")  # what time decides


def say(body: dict[str, Any]) -> str:
    """An answer that cites the first item of the prompt, in the format of every program of the command line."""
    time.sleep(SECONDS)
    shown = _ITEM.findall(body["messages"][-1]["content"]) or ['{"description": "nothing"}']
    item = json.loads(shown[-1])
    quote, label = " ".join(item["description"].split()[:3]), item.get("label", "comedy")
    return "[[ ## reasoning ## ]]\nas item 1\n\n" + _ANSWER.format(quote=quote, label=label)


class Command:
    """A command with its results: how to begin it, how to resume it, and what of it must not depend on kills."""

    def __init__(self, name: str, folder: Path, api_base: str):
        self.name, self.folder = name, folder
        asked = ["--model", "openai/m", "--api-base", api_base, "--lm", "num_retries=0"]
        self.output = folder / ("answers.jsonl" if name == "predict" else "run")
        own = {
            "predict": ["--input", str(_rows()), "--num-threads", str(THREADS)],
            "evaluate": ["--limit", "40", "--num-threads", str(THREADS)],
            "compile": ["--limit", "24", "--num-threads", str(THREADS)],
            "finetune": ["--users", "40", "--method", "sft", "--num-threads", str(THREADS)],
        }[name]
        self.line = [sys.executable, "cli.py", name, *own, *asked, "--output", str(self.output)]

    def start(self, resume: bool) -> subprocess.Popen:
        log = (self.folder / "log").open("ab")
        return subprocess.Popen([*self.line, *(["--resume"] if resume else [])], stdout=log, stderr=log)

    def results(self) -> Any:
        """What the command came to, without what the clock decides."""
        if self.name == "predict":
            return self.output.read_bytes()
        report = _timeless(json.loads((self.output / "report.json").read_text()))
        if self.name == "compile":
            return report["programs"], json.loads((self.output / "program.json").read_text())["predictors"]
        return report["programs"]

    def answered(self) -> set[str]:
        """The whole lines of results that stand on disk."""
        files = [self.output] if self.name == "predict" else self.output.glob("results/*.jsonl")
        lines = (line for path in files if path.exists() for line in path.read_text().splitlines(keepends=True))
        return {_row(line) for line in lines if line.endswith("\n")}


def _rows(count: int = 150) -> Path:
    path = Path(tempfile.mkdtemp()) / "users.jsonl"
    rows = lamp_files(lamp2.TASK, draw(films.case, "train", count))[0]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _row(line: str) -> str:
    return json.dumps(_timeless(json.loads(line)), sort_keys=True)


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key not in _CLOCK}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def _sent(server: FaultyServer, since: int) -> Counter:
    return Counter(json.dumps(body, sort_keys=True) for body in server.requests[since:])


def campaign(name: str, kills: int, server: FaultyServer, draws: random.Random) -> Iterator[str]:
    """Kill a command so often, and yield what differs from an undisturbed run."""
    began = time.monotonic()
    clean = Command(name, Path(tempfile.mkdtemp()), server.api_base)
    if clean.start(resume=False).wait() not in (0, 3):
        yield f"the undisturbed run failed: {(clean.folder / 'log').read_text()[-500:]}"
        return
    takes, wanted, once = time.monotonic() - began, clean.results(), _sent(server, 0)
    done = repeated = runs = different = lost = 0
    most = 0  # repeated requests in a run, for each of its kills
    while done < kills:
        since, command, in_run = len(server.requests), Command(name, Path(tempfile.mkdtemp()), server.api_base), 0
        command.line = [*clean.line[:-1], str(command.output)]
        kept: set[str] = set()
        while True:
            process = command.start(resume=command.output.exists())
            try:
                code = process.wait(draws.uniform(0.1, takes) if done < kills else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                done, in_run, kept = done + 1, in_run + 1, kept | command.answered()
                continue
            if code not in (0, 3):
                yield f"a resumed run ended with {code}: {(command.folder / 'log').read_text()[-500:]}"
                return
            break
        runs += 1
        again = sum((_sent(server, since) - once).values())
        repeated, most = repeated + again, max(most, again / max(in_run, 1))
        different += command.results() != wanted
        lost += len(kept - command.answered())
    met = not different and not lost and repeated <= kills * THREADS
    took = time.monotonic() - began
    yield f"{'met   ' if met else 'MISSED'} {name}: {done} kills in {runs} runs of {takes:.0f} s, {took:.0f} s in all"
    yield f"       results that differ: {different}; answered rows lost: {lost}"
    yield f"       requests sent again: {repeated}, at most {most:.1f} for a kill ({THREADS} are in flight)"


@click.command(help=__doc__)
@click.argument("campaigns", nargs=-1, metavar="COMMAND:KILLS…")
@click.option("--seed", default=0, show_default=True, help="Decide the moments of the kills.")
def main(campaigns: tuple[str, ...], seed: int) -> None:
    for each in campaigns or ("predict:100", "compile:40", "evaluate:20", "finetune:10"):
        name, _, kills = each.partition(":")
        with FaultyServer(text=say) as server:
            for line in campaign(name, int(kills), server, random.Random(seed)):
                click.echo(line)


if __name__ == "__main__":
    main()
