"""Look for keys and users' texts in all that commands leave behind: `python -m benchmarks.sentinels`.

Commands ask a server on this machine that answers, refuses, or repeats the prompt or the key in its error. Keys,
profiles, questions and golds hold words that stand nowhere else. Then every byte of every file and of the terminal is
searched: no key may stand anywhere, and no user's text outside of the files that say so (`programs.runs.texts`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from programs.report_html.embedding import embedded
from programs.report_html.page import PAGE
from programs.runs.texts import holds_texts
from tests.endpoint import Endpoint, Reply

KEY = "sk-5entine1K3y0123456789abcdefghij"
TEXTS = {"profile": "zqprofilez", "question": "zqquestionz", "gold": "zqgoldz"}
# What `--redact` leaves texts out of; answers and golds stay.
_REDACTED = re.compile(
    r"(^|/)(results/.*|transcripts/.*|(answers\.)?failed\.jsonl|answers\.jsonl|program\.json|report\.html)$"
)
_ROOT = Path(__file__).parents[1]
_MAIL = _ROOT / "examples" / "mail"

Run = Callable[[list[str]], str]  # runs a command; its output


def answer(body: dict[str, Any]) -> str:
    """A right answer that cites the first item of the prompt; the answer itself repeats no user's word for a kind."""
    prompt = "\n".join(str(message["content"]) for message in body["messages"])
    shown = re.findall(r'^\{"item": "1".*$', prompt, re.MULTILINE)
    words = json.loads(shown[-1])["text"].split() if shown else []
    quote, subject = " ".join(words[:4]), " ".join(words[1:4])
    fields = {
        "reasoning": f"as {quote}",
        "requirements": "a subject",
        "evidence": json.dumps([{"item": "1", "quote": quote}]),
        "preferences": json.dumps([{"statement": f"writes {quote}", "items": ["1"], "label": None}]),
        "draft": subject,
        "verification": json.dumps({"approved": True, "reason": "item 1"}),
        "subject": subject,
    }
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()) + "\n\n[[ ## completed ## ]]"


def _echo(status: int) -> Callable[[dict[str, Any]], Reply]:
    def reply(body: dict[str, Any]) -> Reply:
        prompt = "\n".join(str(message["content"]) for message in body["messages"])
        return Reply.http_error(status, f"cannot answer with the key {KEY}: '{prompt}'")

    return reply


def _in_turn(body: dict[str, Any]) -> Any:
    """Some rows are answered, some refused."""
    return _echo(400)(body) if len(json.dumps(body)) % 3 == 0 else answer(body)


REPLIES: dict[str, Any] = {
    "answers": answer,
    "400 with the prompt and the key, now and then": _in_turn,
    "401 with the key": Reply.http_error(401, f"Incorrect API key provided: {KEY}. You can find your key online."),
    "400 with the prompt and the key": _echo(400),
    "500 with the prompt and the key": _echo(500),
    "filtered": Reply.filtered_prompt(),
    "prose": lambda body: f"I'd say {answer(body)[40:200]}",
    "a page": lambda body: Reply.http_error(502, {"html": f"<html>{KEY}</html>"}),
}
_DATA = ["--task", str(_MAIL / "task.yaml"), "--data", "rows.jsonl", "--limit", "4"]
_EVALUATE = ["evaluate", *_DATA, "--max-failures", "0.9", "--output", "run"]
COMMANDS: dict[str, list[str]] = {
    "predict": ["predict", "--task", str(_MAIL / "task.yaml"), "--input", "rows.jsonl", "--output", "answers.jsonl"],
    "predict, redacted": [
        *("predict", "--task", str(_MAIL / "task.yaml"), "--input", "rows.jsonl", "--output", "answers.jsonl"),
        "--redact",
    ],
    "evaluate": [*_EVALUATE],
    "evaluate, verbose": [*_EVALUATE, "--verbose"],
    "evaluate, redacted": [*_EVALUATE, "--redact"],
    "sweep": ["sweep", *_DATA, "--output", "run", "--k", "1", "--k", "2"],
    "compile": ["compile", *_DATA, "--optimizer", "bootstrap", "--output", "run"],
    "compile, redacted": ["compile", *_DATA, "--optimizer", "bootstrap", "--output", "run", "--redact"],
    "finetune": ["finetune", *_DATA, "--method", "sft", "--output", "run"],
}


def write_rows(path: Path) -> None:
    """Mails of invented people, in which each text begins with the word for its kind."""
    rows = [json.loads(line) for line in (_MAIL / "mails.jsonl").read_text().splitlines()]
    for row in rows:
        row["mail"], row["subject"] = f"{TEXTS['question']} {row['mail']}", f"{TEXTS['gold']} {row['subject']}"
        for item in row["profile"]:
            item["text"] = f"{TEXTS['profile']} {item['text']}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def look(folder: Path, output: str, command: str) -> Iterator[str]:
    """Yield every key, and every user's text outside of its files, that a command left behind."""
    texts = {word.encode() for word in TEXTS.values()}
    places = {"the terminal": output.encode()}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "rows.jsonl":
            places[path.relative_to(folder).as_posix()] = path.read_bytes()
    for place, content in places.items():
        readable = content + (b"" if place == "the terminal" else packed_texts(folder / place))
        if KEY.encode() in readable:
            yield f"the key stands in {place}: {_around(readable, KEY.encode())}"
        expected = holds_texts(place) or place == "answers.jsonl"
        if place == "the terminal":
            expected = "verbose" in command
        redacted = "redacted" in command and _REDACTED.search(place)
        for word in texts:
            kept = word == TEXTS["gold"].encode() and place.startswith("run/results/") if redacted else expected
            if word in readable and not kept:
                yield f"a user's text stands in {place}: {_around(readable, word)}"


def packed_texts(path: Path) -> bytes:
    """What a call cache or a page of a run holds compressed; nothing for other files."""
    import sqlite3

    if path.name == "ledger.sqlite":
        with closing(sqlite3.connect(path)) as connection:
            return b"\n".join(zlib.decompress(row[0]) for row in connection.execute("SELECT answer FROM calls"))
    if path.name == PAGE:
        return json.dumps(embedded(path.read_text(encoding="utf-8")), ensure_ascii=False).encode(errors="replace")
    return b""


def _around(content: bytes, word: bytes) -> str:
    at = content.index(word)
    return ascii(content[max(at - 60, 0) : at + 60].decode(errors="replace"))


def campaign(run: Run, commands: list[str], replies: list[str], folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Run each command against each kind of reply in a new folder; yield what it was, and what it leaked."""
    for number, (command, reply) in enumerate((command, reply) for command in commands for reply in replies):
        here = folder / str(number)
        here.mkdir()
        write_rows(here / "rows.jsonl")
        before = Path.cwd()
        os.chdir(here)
        try:
            with Endpoint(REPLIES[reply]) as endpoint:
                asked = [
                    "--model",
                    "openai/m",
                    "--api-base",
                    endpoint.api_base,
                    "--num-threads",
                    "2",
                    "--lm",
                    "num_retries=0",
                ]
                output = run([*COMMANDS[command], *asked])
        finally:
            os.chdir(before)
        yield f"{command}: {reply}", list(dict.fromkeys(look(here, output, command)))


def _subprocess(arguments: list[str]) -> str:
    here = Path.cwd()
    environment = {
        **os.environ,
        "OPENAI_API_KEY": KEY,
        "PYTHONPATH": str(_ROOT),
        "DSPY_CACHEDIR": str(here / "cache"),
        "TMPDIR": str(here / "tmp"),
    }
    (here / "tmp").mkdir()
    line = [sys.executable, str(_ROOT / "cli.py"), *arguments]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600, check=False)
    return done.stdout + done.stderr


@click.command(help=__doc__)
@click.argument("commands", nargs=-1)
def main(commands: tuple[str, ...]) -> None:
    leaks = runs = 0
    with tempfile.TemporaryDirectory() as folder:
        for words, found in campaign(_subprocess, [*(commands or COMMANDS)], [*REPLIES], Path(folder)):
            runs, leaks = runs + 1, leaks + len(found)
            click.echo("\n  ".join([f"{'LEAKS' if found else 'ok   '} {words}", *found]))
    click.echo(f"{runs} runs, {leaks} leaks")
    sys.exit(bool(leaks))


if __name__ == "__main__":
    main()
