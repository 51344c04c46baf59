"""Turn an author's messages into questions, each with the history before it."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from programs.data.makers.message import Message
from r2p_dspy.errors import ConfigError
from r2p_dspy.values.words import words

By = Literal["time", "user"]
Part = Literal["train", "dev"]

_TRAINED = 3  # questions of an author to train on
_EVERY = 4  # of so many authors, one is reported in a split by user
_ALIKE = 0.8  # the share of common words from which two messages are near-duplicates


@dataclass(frozen=True)
class SplitConfig:
    """How histories become questions.

    Args:
        min_history: the fewest messages before a question, at least 1.
        max_history: the most; the newest are taken.
        by: "time" (every author's last message is reported, up to three before it are trained on) or "user" (of a
            quarter of the authors the last message is reported, of the others up to three are trained on).

    Raises:
        ConfigError: for other numbers, and for a minimum above the maximum.
    """

    min_history: int = 4
    max_history: int = 20
    by: By = "time"

    def __post_init__(self) -> None:
        if not 1 <= self.min_history <= self.max_history:
            raise ConfigError(
                f"--min-history is at least 1 and at most --max-history, not {self.min_history} and {self.max_history}"
            )


class Question(NamedTuple):
    """A message whose subject is asked for, and the messages before it, from old to new."""

    part: Part
    place: int  # among the author's messages, from 0
    message: Message
    history: list[Message]


def questions(config: SplitConfig, author: int, messages: Iterable[Message], left_out: Counter[str]) -> list[Question]:
    """The questions of one author; none if the history is too short. Memory holds the newest messages alone.

    Args:
        config: how long histories are.
        author: the author's number, from 0, among those with questions.
        messages: the author's, from old to new.
        left_out: counts near-duplicates.
    """
    window: deque[tuple[Message, _Likeness]] = deque(maxlen=config.max_history + _TRAINED + 1)
    kept = 0
    for message in messages:
        likeness = _Likeness.of(message)
        if any(likeness.resembles(other) for _, other in window):
            left_out["near-duplicates"] += 1
            continue
        window.append((message, likeness))
        kept += 1
    newest = [message for message, _ in window]
    first = kept - len(newest)  # the place of the oldest one that is still there
    return [
        Question(part, first + at, newest[at], newest[max(0, at - config.max_history) : at])
        for part, at in _asked(config.by, author, len(newest))
        if at >= config.min_history
    ]


def _asked(by: By, author: int, count: int) -> Iterator[tuple[Part, int]]:
    """Which of an author's newest messages become questions, by their place."""
    if by == "user" and author % _EVERY:
        yield from (("train", count - number) for number in range(1, _TRAINED + 1))
        return
    yield "dev", count - 1
    if by == "time":
        yield from (("train", count - 1 - number) for number in range(1, _TRAINED + 1))


class _Likeness(NamedTuple):
    """What two messages are compared by. Numbers do not count."""

    subject: tuple[str, ...]
    text: frozenset[str]

    @classmethod
    def of(cls, message: Message) -> "_Likeness":
        subject, body = ([word for word in words(text) if not word.isdecimal()] for text in message[2:])
        return cls(tuple(subject), frozenset(subject + body))

    def resembles(self, other: "_Likeness") -> bool:
        """Whether the subjects are the same, or most words."""
        if self.subject == other.subject:
            return True
        common = len(self.text & other.text)
        return common >= _ALIKE * (len(self.text) + len(other.text) - common)


def row(author: str, question: Question, wording: str) -> dict[str, Any]:
    """A question as LaMP's files have it; `wording` begins its input."""
    first = question.place - len(question.history)
    items = [
        {"id": str(first + number), "title": item.subject, "text": item.body, "date": item.date}
        for number, item in enumerate(question.history)
    ]
    name = f"{author}-{question.place}"
    return {"id": name, "user_id": author, "input": wording + question.message.body, "profile": items}
