"""Answers that were given and the feedback on them, kept beside a profile store.

An answer holds the texts of its request: the question, what was answered, and the profile where one was sent along. Of
a user in the store it holds no item, only the id of the newest one that the program could see.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import LABEL_STYLE_TABLENAME_PLUS_COL

from programs.feedback.tables import ANSWERS, FEEDBACK, SQLITE, VERSION, create, engine_of
from r2p_dspy.errors import ConfigError
from r2p_dspy.stores.database import database_errors

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True)
class Answer:
    """An answer as it is kept.

    Args:
        id: 32 hex digits.
        tenant: whose token asked; "" where no tokens are used.
        program, task: the names of the program and of its task.
        user: whose history it rests on, as the store names them; None for an anonymous profile.
        inputs: the program's inputs without the profile.
        outputs: the program's outputs.
        profile: the items that were sent along, in the task's names; None where they came from the store.
        newest: the id of the newest item that the program could see, of a user in the store.
        at: microseconds since 1970.
    """

    tenant: str
    program: str
    task: str
    user: str | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    profile: list[dict[str, Any]] | None = None
    newest: str | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: int = field(default_factory=lambda: time.time_ns() // 1000)


@dataclass(frozen=True)
class Feedback:
    """What somebody said of an answer.

    Args:
        answer: the answer's id.
        verdict: "accepted" or "rejected"; None where nothing was said.
        edited: what the answer should have been; None for nothing.
        rating: from 1 to 5; None for none.
        at: microseconds since 1970.
    """

    answer: str
    verdict: str | None = None
    edited: Any = None  # of the type of the task's answer
    rating: int | None = None
    at: int = field(default_factory=lambda: time.time_ns() // 1000)


_COLUMNS = ("id", "tenant", "program", "task", "user", "at")
_BODY = ("inputs", "outputs", "profile", "newest")
_AT_ONCE = 500  # ids in one statement


class Answers:
    """Answers and feedback in a database. Threads and processes may share it.

    What was written with `synced` is on the disk when the method returns. Other writes survive the end of the process;
    when the machine loses its power, the last ones may be lost.

    Args:
        url: the address of the profile store. In SQLite, answers go to a file beside it (`NAME.answers.sqlite`), since
            they come and go more often; else into tables of the same database.

    Raises:
        ConfigError: SQLAlchemy or the database's driver is not installed.
        StoreError: the database cannot be used, or was made by a newer version.
    """

    def __init__(self, url: str) -> None:
        self._engine, self._where = engine_of(url)
        self._sqlite = self._engine.dialect.name == SQLITE
        with self._errors():
            create(self._engine, self._where)

    def __repr__(self) -> str:
        return f"Answers({self._where!r})"

    def write(self, entries: Sequence[Answer | Feedback], *, synced: bool) -> None:
        """Keep answers and feedback, all or none."""
        answers = [_answer_row(entry) for entry in entries if isinstance(entry, Answer)]
        feedback = [_feedback_row(entry) for entry in entries if isinstance(entry, Feedback)]
        with self._errors(), self._engine.connect() as connection:
            self._set_sync(connection, synced)
            with connection.begin():
                if answers:
                    connection.execute(ANSWERS.insert(), answers)
                if feedback:
                    connection.execute(FEEDBACK.insert(), feedback)

    def get(self, answer: str) -> Answer | None:
        """The answer of an id; None for an unknown one."""
        with self._errors(), self._engine.connect() as connection:
            row = connection.execute(ANSWERS.select().where(ANSWERS.c.id == answer)).mappings().first()
        return None if row is None else _answer(row)

    def judged(self, task: str) -> Iterator[tuple[Answer, Feedback]]:
        """The answers of a task that have feedback, from old to new, each with its feedback.

        Of several pieces of feedback, a later one replaces what it says again.
        """
        chosen = ANSWERS.join(FEEDBACK, ANSWERS.c.id == FEEDBACK.c.answer).select().where(ANSWERS.c.task == task)
        chosen = chosen.set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL).order_by(
            ANSWERS.c.at, ANSWERS.c.id, FEEDBACK.c.number
        )
        last: tuple[Answer, Feedback] | None = None
        with self._errors(), self._engine.connect() as connection:
            for row in connection.execution_options(yield_per=500).execute(chosen).mappings():
                answer = _answer({name: row[f"r2p_answers_{name}"] for name in (*_COLUMNS, "body")})
                said = json.loads(row["r2p_feedback_body"])
                if last is not None and last[0].id == answer.id:
                    last = answer, replace(last[1], at=row["r2p_feedback_at"], **said)
                    continue
                if last is not None:
                    yield last
                last = answer, Feedback(answer.id, at=row["r2p_feedback_at"], **said)
        if last is not None:
            yield last

    def delete_user(self, user: str, holds: Callable[[Any], bool] | None = None) -> int:
        """Delete a user's answers and the feedback on them; return the number of answers.

        In SQLite the file is rewritten, so that no page keeps a copy; PostgreSQL vacuums its tables.

        Args:
            user: the user's name, as the store has it.
            holds: whether a piece of JSON holds a text of the user; other answers that do are deleted too.
        """
        with self._errors():
            with self._engine.begin() as connection:
                ids = [id_ for (id_,) in connection.execute(_chosen("id").where(ANSWERS.c.user == user))]
                if holds is not None:
                    everything = connection.execution_options(yield_per=500).execute(_chosen("id", "body"))
                    ids += [id_ for id_, body in everything if holds(json.loads(body))]
                for start in range(0, len(ids), _AT_ONCE):
                    some = ids[start : start + _AT_ONCE]
                    connection.execute(FEEDBACK.delete().where(FEEDBACK.c.answer.in_(some)))
                    connection.execute(ANSWERS.delete().where(ANSWERS.c.id.in_(some)))
            self._wipe()
        return len({*ids})

    def check(self) -> None:
        """Raise `StoreError` if the database cannot be read now."""
        with self._errors(), self._engine.connect() as connection:
            connection.execute(VERSION.select()).first()

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _set_sync(self, connection: "Connection", synced: bool) -> None:
        if self._sqlite:
            connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            connection.rollback()  # SQLAlchemy opened a transaction, in which nothing happened

    def _wipe(self) -> None:
        autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        with autocommit.connect() as connection:
            if self._sqlite:
                connection.exec_driver_sql("VACUUM")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            elif self._engine.dialect.name == "postgresql":
                connection.exec_driver_sql(f"VACUUM {ANSWERS.name}, {FEEDBACK.name}")

    def _errors(self) -> AbstractContextManager[None]:
        return database_errors(f"the answers at {self._where}", "try again when they can")


def verdict_of(feedback: Feedback) -> str | None:
    """Whether an answer was "accepted" or "rejected"; a rating of 4 or 5 accepts, one of 1 or 2 rejects.

    Examples:
        >>> [verdict_of(Feedback("a", rating=rating)) for rating in (5, 3, 2)]
        ['accepted', None, 'rejected']
    """
    if feedback.verdict is not None or feedback.rating is None or feedback.rating == 3:
        return feedback.verdict
    return "accepted" if feedback.rating > 3 else "rejected"


def checked_feedback(feedback: Feedback) -> Feedback:
    """The feedback; `ConfigError` where it says nothing."""
    if feedback.verdict is None and feedback.edited is None and feedback.rating is None:
        raise ConfigError('the feedback says nothing; give "verdict", "edited" or "rating"')
    return feedback


def _chosen(*columns: str) -> Any:
    return ANSWERS.select().with_only_columns(*(ANSWERS.c[name] for name in columns))


def _answer_row(answer: Answer) -> dict[str, Any]:
    body = {name: value for name in _BODY if (value := getattr(answer, name)) is not None}
    return {**{name: getattr(answer, name) for name in _COLUMNS}, "body": json.dumps(body)}


def _feedback_row(feedback: Feedback) -> dict[str, Any]:
    said = {name: value for name in ("verdict", "edited", "rating") if (value := getattr(feedback, name)) is not None}
    return {"answer": feedback.answer, "at": feedback.at, "body": json.dumps(said)}


def _answer(row: Any) -> Answer:
    return Answer(**{name: row[name] for name in _COLUMNS}, **json.loads(row["body"]))
