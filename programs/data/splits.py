"""Keeping training and evaluation apart: splitting by user, and refusing a question that stands on both sides."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import dspy
import numpy as np

from r2p_dspy.errors import ConfigError, DataError
from r2p_dspy.profile import Profile

_TELLING = 3  # so many items of one history inside another tell a user; fewer may be two users' common taste


def split(
    examples: Sequence[dspy.Example], seed: int, dev_share: float = 0.2
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Split examples in two, such that no user is in both.

    Args:
        examples: as `lamp_data.load` gives them.
        seed: the same seed splits the same way.
        dev_share: how much of the examples to put aside, between 0 and 1; by whole users, so about so much.

    Returns:
        The two parts, to train on and to compare with, neither empty, each in the order of `examples`.

    Raises:
        ValueError: for a share outside (0, 1), or when all examples are of one user.

    Example:
        >>> rows = [dspy.Example(q=str(n), profile=Profile()).with_inputs("q", "profile") for n in range(10)]
        >>> [len(part) for part in split(rows, seed=0)]
        [8, 2]
    """
    if not 0 < dev_share < 1:
        raise ConfigError(f"dev_share is the part to put aside, between 0 and 1, not {dev_share}")
    owners = users(examples)
    order = sorted(set(owners))
    if len(order) < 2:
        raise ConfigError("splitting by user needs at least two users; load more examples")
    random.Random(seed).shuffle(order)
    sizes = Counter(owners)
    aside: set[int] = set()
    missing = dev_share * len(examples)
    for owner in order[:-1]:  # one user always stays
        if missing <= 0:
            break
        aside.add(owner)
        missing -= sizes[owner]
    train = [example for example, owner in zip(examples, owners, strict=True) if owner not in aside]
    dev = [example for example, owner in zip(examples, owners, strict=True) if owner in aside]
    return train, dev


def check_apart(train: Sequence[dspy.Example], evaluation: Sequence[dspy.Example]) -> int:
    """Refuse training on what is evaluated on, and count the users that are on both sides.

    Args:
        train, evaluation: examples as `lamp_data.load` gives them.

    Returns:
        How many users of the evaluation set are in the training set as well (as in LaMP's time-based splits).

    Raises:
        DataError: when a question of the evaluation set stands in the training set, with the same text and the same
            id. (The same text under another id is another user's question: two tag one film, two write one paper.)

    Example:
        >>> row = dspy.Example(id="1", q="what", profile=Profile()).with_inputs("q", "profile")
        >>> check_apart([row], [row])
        Traceback (most recent call last):
        r2p_dspy.errors.DataError: question 1 stands in the training and in the evaluation set; take it out of one
    """
    trained = {hash(key(example)) for example in train}  # which holds no texts
    for example in evaluation:
        if hash(key(example)) in trained:
            name = example.get("id")
            raise DataError(f"question {name} stands in the training and in the evaluation set; take it out of one")
    owners = users([*train, *evaluation])
    return len(set(owners[: len(train)]) & set(owners[len(train) :]))


def users(examples: Sequence[dspy.Example]) -> list[int]:
    """Which user each example is of, as numbers from 0.

    Examples with a `user` are told by that. Others are of one user when their histories are the same, or when one
    history stands within the other (the same user, later) and is no shorter than three items: LaMP names no users,
    and its items' ids differ from question to question, so texts and labels have to tell.
    """
    return grouped([telling(example) for example in examples])


def telling(example: dspy.Example) -> str | bytes:
    """What tells an example's user: the `user`, or the history as a few bytes an item; empty where nothing does.

    The bytes are good for this process only.
    """
    if "user" in example:
        return example["user"]
    profile = next((value for value in example.values() if isinstance(value, Profile)), Profile())
    return np.unique(np.array([hash((item.text, item.label)) for item in profile], dtype=np.int64)).tobytes()


def grouped(tellings: Sequence[str | bytes]) -> list[int]:
    """The users that are told so, as numbers from 0; what tells nothing is a user of its own."""
    leader = list(range(len(tellings)))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    first: dict[str | bytes, int] = {}  # where a name or a history stood first
    for number, told_by in enumerate(tellings):
        if told_by:
            leader[number] = first.setdefault(told_by, number)
    histories = [told_by for told_by in first if isinstance(told_by, bytes)]
    for inner, outer in _within([np.frombuffer(history, np.int64) for history in histories]):
        leader[find(first[histories[inner]])] = find(first[histories[outer]])
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find(number), len(numbers)) for number in range(len(tellings))]


def _within(histories: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """The pairs of which the first stands within the second, which is longer."""
    if not histories:
        return
    items = np.concatenate(histories)
    order = np.argsort(items, kind="stable")
    items, holders = items[order], np.repeat(np.arange(len(histories)), [len(one) for one in histories])[order]
    for inner, history in enumerate(histories):
        if len(history) < _TELLING:
            continue
        # A history that holds this one holds its rarest item, so only that item's holders need a look.
        left, right = (np.searchsorted(items, history, side) for side in ("left", "right"))
        rarest = (right - left).argmin()
        for outer in holders[left[rarest] : right[rarest]]:
            longer = len(histories[outer]) > len(history)
            if longer and np.isin(history, histories[outer], assume_unique=True).all():
                yield inner, int(outer)


def key(example: dspy.Example) -> tuple[Any, ...]:
    """What tells a question: its id and its texts."""
    return (example.get("id"), *(value for value in example.inputs().values() if not isinstance(value, Profile)))
