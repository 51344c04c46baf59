"""From answers and feedback to rows of data that `compile`, `evaluate` and `finetune` take.

train.jsonl, dev.jsonl: {"id": "9f…", "user": "ada", "description": "A storm.", "profile": [{…}], "tag": "romance"}
pairs.jsonl:            {"id": "9f…", …, "profile": [{…}], "chosen": "romance", "rejected": "action"}
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from programs.feedback.answers import Answer, Answers, Feedback, verdict_of
from programs.tasks.task import Task
from r2p_dspy import Profile
from r2p_dspy.errors import DataError, RunError
from r2p_dspy.files import write_atomic
from r2p_dspy.stores import ProfileStore

By = Literal["user", "time"]
Part = Literal["train", "dev"]
_EVERY = 4  # of so many users, one is reported in a split by user


@dataclass
class Made:
    """What feedback became.

    Args:
        train, dev: rows to train on, and rows to report, each from old to new.
        pairs: preference pairs of the users who are trained on.
        left_out: why other feedback became no row, counted.
    """

    train: list[dict[str, Any]] = field(default_factory=list)
    dev: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def write(self, directory: Path) -> None:
        """Write the rows into a new directory; `RunError` if it holds files already."""
        if directory.exists() and any(directory.iterdir()):
            raise RunError(f"{directory} holds files already; give another --output")
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("train", "dev", "pairs"):
            rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in getattr(self, name)]
            write_atomic(directory / f"{name}.jsonl", "".join(rows))


@dataclass(frozen=True)
class _Judged:
    row: dict[str, Any]  # without the answer
    given: Any
    gold: Any  # None where only what is wrong is known
    is_wrong: bool  # what was given


def rows_of(task: Task, answers: Answers, store: ProfileStore, by: By = "user") -> Made:
    """Make rows of the feedback on a task's answers.

    An edited text is the right answer, and so is an answer that was accepted. A pair has the right answer and the one
    that was given; or the accepted and the rejected answer of a user to one question. A row's history is what the user
    had when the answer was given, without what was deleted since; later items could hold the answer.

    Args:
        task: whose answers.
        answers: where they are kept.
        store: the users' histories.
        by: "user" (a quarter of the users is reported) or "time" (each user's last row is reported).

    Raises:
        DataError: no feedback becomes a row, or that of a single user is to be split by user.
    """
    made, judged = Made(), list[_Judged]()
    for answer, feedback in answers.judged(task.name):
        reading = _judged(task, answer, feedback, store)
        if isinstance(reading, str):
            made.left_out[reading] += 1
        else:
            judged.append(reading)
    if not any(entry.gold is not None for entry in judged):
        raise DataError(f"no feedback says what the right answer of {task.name} is; edit or accept some answers first")
    parts = _parts(judged, by)
    for entry in judged:
        if entry.gold is not None:
            row = {**entry.row, task.answer: entry.gold}
            (made.dev if parts[entry.row["id"]] == "dev" else made.train).append(row)
    made.pairs = [pair for pair in _pairs(task, judged) if parts[pair["id"]] == "train"]
    return made


def _judged(task: Task, answer: Answer, feedback: Feedback, store: ProfileStore) -> _Judged | str:
    """An answer with what its feedback says of it, or why it says nothing."""
    verdict, given = verdict_of(feedback), answer.outputs.get(task.answer)
    gold = feedback.edited if feedback.edited is not None else given if verdict == "accepted" else None
    is_wrong = (feedback.edited is not None and feedback.edited != given) or verdict == "rejected"
    if gold is None and not is_wrong:
        return "feedback that neither accepts nor rejects"
    items = _history(task, answer, store)
    if items is None:
        return "answers whose history is no longer known"
    row = {"id": answer.id, "user": answer.user or answer.id, **answer.inputs, task.profile: items}
    return _Judged(row, given, gold, is_wrong)


def _history(task: Task, answer: Answer, store: ProfileStore) -> list[dict[str, Any]] | None:
    """The history as it was when the answer was given; None where that cannot be told."""
    if answer.profile is not None:
        return answer.profile
    if answer.newest is None or answer.user is None:
        return []
    items = [*store.get(answer.user)]
    last = next((place for place, item in enumerate(items) if item.id == answer.newest), None)
    return None if last is None else in_task_names(task, Profile.model_construct(items=items[: last + 1], dropped=0))


def in_task_names(task: Task, profile: Profile) -> list[dict[str, Any]]:
    """The items of a profile as rows of data have them; an item that is none of this task's is left out."""
    rows = []
    for item in profile:
        row: dict[str, Any] = {"id": item.id, **{name: item.fields.get(name, "") for name in task.fields}}
        if task.label is not None:
            row[task.label] = item.label
        if item.date is not None:
            row["date"] = item.date
        if any(row[name].strip() for name in task.fields) and (task.label is None or item.label in task.labels):
            rows.append(row)
    return rows


def _parts(judged: Iterable[_Judged], by: By) -> Mapping[str, Part]:
    """Whether an answer is trained on or reported, by its id."""
    ids: dict[str, list[str]] = defaultdict(list)
    for entry in judged:
        ids[entry.row["user"]].append(entry.row["id"])
    if by == "time":
        return {id_: "dev" if id_ == own[-1] else "train" for own in ids.values() for id_ in own}
    if len(ids) < 2:
        raise DataError("feedback of a single user cannot be split by user; add --split time")
    users = sorted(ids, key=lambda user: hashlib.sha256(user.encode()).digest())
    reported = {*users[: max(1, len(users) // _EVERY)]}
    return {id_: "dev" if user in reported else "train" for user, own in ids.items() for id_ in own}


def _pairs(task: Task, judged: list[_Judged]) -> Iterator[dict[str, Any]]:
    """Preference pairs: a right answer, and one that was given and is wrong."""
    accepted: dict[str, Any] = {}
    for entry in judged:
        if entry.gold is not None and not entry.is_wrong:
            accepted[_question(task, entry)] = entry.gold
    for entry in judged:
        chosen = entry.gold if entry.gold is not None else accepted.get(_question(task, entry))
        if entry.is_wrong and chosen is not None and entry.given is not None and chosen != entry.given:
            yield {**entry.row, "chosen": chosen, "rejected": entry.given}


def _question(task: Task, entry: _Judged) -> str:
    return json.dumps([entry.row["user"], *(entry.row.get(name) for name in task.inputs)])
