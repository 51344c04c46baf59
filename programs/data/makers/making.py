"""Write LaMP's files from messages: complete in their folder, or not at all."""

import json
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, TextIO

from programs.data.makers.message import Message
from programs.data.makers.splitting import Part, SplitConfig, questions, row
from programs.data.makers.store import MessageStore, message_store
from r2p_dspy.errors import ConfigError, DataError
from r2p_dspy.files import atomic_path

TASK = "LaMP_6"  # what the outputs files name
ROWS = "predict.jsonl"  # the questions of dev once more, as `predict` takes them
_READ = ("commits", "e-mails", "broken encodings")  # counts of what was read, not of what was left out
_PARTS: tuple[Part, ...] = ("train", "dev")


@dataclass(frozen=True)
class MakerConfig:
    """How data are made, whatever they are made from.

    Args:
        split: how histories become questions.
        since: older messages are left out, by their day (UTC); None for none.
        limit: the most authors with questions, drawn by their hashes; None for all.
        salt: decides the authors' hashes, and so which are drawn; None for a random one, which nobody can know later.

    Raises:
        ConfigError: for a limit below 2 and an empty salt.
    """

    split: SplitConfig = field(default_factory=SplitConfig)
    since: date | None = None
    limit: int | None = None
    salt: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"--limit is the most authors, at least 2, not {self.limit}")
        if self.salt == "":
            raise ConfigError("--salt is empty; give some characters that nobody guesses, or leave it out")


@dataclass
class Summary:
    """What was made.

    Args:
        authors: with questions.
        train, dev: numbers of questions.
        left_out: numbers of messages that were left out, by their kind.
    """

    authors: int = 0
    train: int = 0
    dev: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def make(
    messages: Iterable[Message],
    left_out: Counter[str],
    config: MakerConfig,
    folder: Path,
    *,
    wording: str,
    source: dict[str, Any],
) -> Summary:
    """Write `{train,dev}_{questions,outputs}.json`, `predict.jsonl` and `source.json` into a folder.

    Memory does not grow with the number of messages.

    Args:
        messages: in any order; of those of one second, the newest first.
        left_out: counts of what the reader of the messages leaves out, which it fills meanwhile.
        config: how they become questions.
        folder: an empty folder, see `new_folder`. Only its owner can read the files.
        wording: what a question's input begins with, up to and with its first colon.
        source: what the messages are from, for `source.json`.

    Raises:
        DataError: one line, if there are fewer than two authors with enough messages.
    """
    salt = secrets.token_bytes(32) if config.salt is None else config.salt.encode(errors="backslashreplace")
    with message_store(salt) as store:
        _fill(store, messages, config, left_out)
        summary = _write(store, config, left_out, folder, wording)
    settings = {"split": config.split.by, "since": config.since and config.since.isoformat()}
    facts = {"task": TASK, **settings, **source, "authors": summary.authors, "left_out": dict(left_out)}
    with _created(folder / "source.json") as file:
        file.write(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return summary


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder that gets its name when the block succeeds, and is removed when it fails.

    Raises:
        DataError: one line, if there is something already, or it cannot be written.
    """
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise DataError(f"{folder} is there already; give another --output, or remove it")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder) as part:
            part.mkdir(0o700)
            yield part
    except OSError as error:
        raise DataError(f"cannot write {folder} ({error.strerror}); give another --output") from None


def _fill(store: MessageStore, messages: Iterable[Message], config: MakerConfig, left_out: Counter[str]) -> None:
    since = 0 if config.since is None else datetime.combine(config.since, time(), UTC).timestamp()
    for message in messages:
        if message.time < since:
            left_out[f"before {config.since}"] += 1
        elif not store.add(message):
            left_out["duplicates"] += 1


def _write(store: MessageStore, config: MakerConfig, left_out: Counter[str], folder: Path, wording: str) -> Summary:
    summary, too_few = Summary(left_out=left_out), 0
    with ExitStack() as stack:
        files = {part: stack.enter_context(_lamp_files(folder, part)) for part in _PARTS}
        rows = stack.enter_context(_created(folder / ROWS))
        for author, messages in store.authors():
            asked = questions(config.split, summary.authors, messages, left_out)
            too_few += not asked
            for question in asked:
                questions_file, golds_file = files[question.part]
                item = row(author, question, wording)
                questions_file.add(item)
                golds_file.add({"id": item["id"], "output": question.message.subject})
                if question.part == "dev":
                    rows.write(json.dumps(item, ensure_ascii=False) + "\n")
            summary.authors += bool(asked)
            if summary.authors == config.limit:
                break
        summary.train, summary.dev = (files[part][0].rows for part in _PARTS)
        if summary.authors < 2 or not summary.train:
            raise DataError(_too_few(summary, too_few, config.split))
    return summary


def _too_few(summary: Summary, authors_left_out: int, split: SplitConfig) -> str:
    needed = f"more than {split.min_history} usable messages"
    if summary.authors == 1:
        what = f"only one author has {needed}, and two are needed: histories are compared"
    elif summary.authors:
        what = f"no author to train on has {needed}"
    else:
        what = f"no author has {needed} ({authors_left_out} have fewer)"
    return f"{what}; give more sources or a lower --min-history; left out: {counted(summary.left_out)}"


def counted(left_out: Counter[str]) -> str:
    """Counts in words, the largest first, without those that are no messages."""
    counts = [(kind, number) for kind, number in left_out.most_common() if number and kind not in _READ]
    return ", ".join(f"{kind} {number:,}" for kind, number in counts) or "none"


class _JSONList:
    """A list in a file that grows row by row."""

    def __init__(self, file: TextIO):
        self._file, self.rows = file, 0

    def add(self, value: Any) -> None:
        """Write one more value."""
        # Halves of surrogate pairs, which no UTF-8 file can have, become escapes.
        text = json.dumps(value, ensure_ascii=False)
        self._file.write((",\n" if self.rows else "") + text)
        self.rows += 1


@contextmanager
def _lamp_files(folder: Path, part: Part) -> Iterator[tuple[_JSONList, _JSONList]]:
    """The questions and the golds of a split, written side by side."""
    with _created(folder / f"{part}_questions.json") as asked, _created(folder / f"{part}_outputs.json") as golds:
        asked.write("[")
        golds.write(f'{{"task": "{TASK}", "golds": [')
        yield _JSONList(asked), _JSONList(golds)
        asked.write("]\n")
        golds.write("]}\n")


@contextmanager
def _created(path: Path) -> Iterator[TextIO]:
    """A new file that only its owner can read."""
    path.touch(0o600)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        yield file
