"""Keep training and evaluation apart: split by user, and refuse a question that is on both sides."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import dspy
import numpy as np

from r2p_dspy.errors import ConfigError, DataError
from r2p_dspy.profile import Profile

_MIN_ITEMS = 3  # a history inside another is the same user's; with fewer items it may be two users' common taste


def split(
    examples: Sequence[dspy.Example], seed: int, dev_share: float = 0.2
) -> tuple[list[dspy.Example], list[dspy.Example]]:
    """Split examples into train and dev, so that no user is in both.

    Args:
        examples: examples with a profile.
        seed: the same seed makes the same split.
        dev_share: share of the examples for dev, above 0 and below 1. Users are not divided, so it is met roughly.

    Returns:
        Train and dev, neither empty, each in the order of `examples`.

    Raises:
        ConfigError: for a share outside (0, 1).
        DataError: if all examples are of one user.

    Examples:
        >>> rows = [dspy.Example(q=str(n), profile=Profile()).with_inputs("q", "profile") for n in range(10)]
        >>> [len(part) for part in split(rows, seed=0)]
        [8, 2]
    """
    if not 0 < dev_share < 1:
        raise ConfigError(f"dev_share is a share between 0 and 1, not {dev_share}")
    user_of = users(examples)
    order = sorted(set(user_of))
    if len(order) < 2:
        raise DataError("a split by user needs at least two users; load more examples")
    random.Random(seed).shuffle(order)
    sizes = Counter(user_of)
    dev_users: set[int] = set()
    missing = dev_share * len(examples)
    for user in order[:-1]:  # one user always stays in train
        if missing <= 0:
            break
        dev_users.add(user)
        missing -= sizes[user]
    train = [example for example, user in zip(examples, user_of, strict=True) if user not in dev_users]
    dev = [example for example, user in zip(examples, user_of, strict=True) if user in dev_users]
    return train, dev


def check_apart(train: Sequence[dspy.Example], evaluation: Sequence[dspy.Example]) -> int:
    """Refuse a question that is both trained and evaluated on, and count the users that are on both sides.

    Returns:
        The number of users of the evaluation set who are in the training set too (as in LaMP's time-based splits).

    Raises:
        DataError: if the training set has a question of the evaluation set, with the same text and the same id. (The
            same text under another id is another user's question: two users tag one film, two authors write one paper.)

    Examples:
        >>> row = dspy.Example(id="1", q="what", profile=Profile()).with_inputs("q", "profile")
        >>> check_apart([row], [row])
        Traceback (most recent call last):
        r2p_dspy.errors.DataError: question 1 is in the training and in the evaluation set; take it out of one of them
    """
    trained = {hash(question_key(example)) for example in train}  # hashes, because texts take much memory
    for example in evaluation:
        if hash(question_key(example)) in trained:
            where = "in the training and in the evaluation set; take it out of one of them"
            raise DataError(f"question {example.get('id')} is {where}")
    user_of = users([*train, *evaluation])
    return len(set(user_of[: len(train)]) & set(user_of[len(train) :]))


def users(examples: Sequence[dspy.Example]) -> list[int]:
    """The user of each example, as a number from 0.

    An example's `user` names its user. Without it, two examples are of one user if their histories are equal, or if one
    history of at least three items is inside the other (the same user, later). LaMP names no users, and its items' ids
    differ from question to question, so histories are compared by texts and labels.
    """
    return group_users([user_fingerprint(example) for example in examples])


def user_fingerprint(example: dspy.Example) -> str | bytes:
    """An example's `user`, or hashes of its history's items (valid in this process); empty if it has neither."""
    if "user" in example:
        return example["user"]
    profile = next((value for value in example.values() if isinstance(value, Profile)), Profile())
    return np.unique(np.array([hash((item.text, item.label)) for item in profile], dtype=np.int64)).tobytes()


def group_users(fingerprints: Sequence[str | bytes]) -> list[int]:
    """The user of each fingerprint, as a number from 0; every empty fingerprint is a user of its own."""
    leader = list(range(len(fingerprints)))

    def find(number: int) -> int:
        while leader[number] != number:
            leader[number] = leader[leader[number]]
            number = leader[number]
        return number

    first: dict[str | bytes, int] = {}  # the first place of each fingerprint
    for number, fingerprint in enumerate(fingerprints):
        if fingerprint:
            leader[number] = first.setdefault(fingerprint, number)
    histories = [fingerprint for fingerprint in first if isinstance(fingerprint, bytes)]
    for inner, outer in _contained_pairs([np.frombuffer(history, np.int64) for history in histories]):
        leader[find(first[histories[inner]])] = find(first[histories[outer]])
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find(number), len(numbers)) for number in range(len(fingerprints))]


def _contained_pairs(histories: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """The pairs of histories of which the second is longer and has all items of the first."""
    if not histories:
        return
    items = np.concatenate(histories)
    order = np.argsort(items, kind="stable")
    items, holders = items[order], np.repeat(np.arange(len(histories)), [*map(len, histories)])[order]
    for inner, history in enumerate(histories):
        if len(history) < _MIN_ITEMS:
            continue
        # A history that has all these items has the rarest one, so only the holders of that item are compared.
        left, right = (np.searchsorted(items, history, side) for side in ("left", "right"))
        rarest = (right - left).argmin()
        for outer in holders[left[rarest] : right[rarest]]:
            longer = len(histories[outer]) > len(history)
            if longer and np.isin(history, histories[outer], assume_unique=True).all():
                yield inner, int(outer)


def question_key(example: dspy.Example) -> tuple[Any, ...]:
    """The id and the texts of a question, by which two questions are the same."""
    return (example.get("id"), *(value for value in example.inputs().values() if not isinstance(value, Profile)))
