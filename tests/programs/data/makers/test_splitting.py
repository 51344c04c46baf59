"""Histories become questions: in the order of time, apart by time or by user, without near-duplicates."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs.data.makers.message import Message
from programs.data.makers.splitting import SplitConfig, questions
from programs.data.makers.store import message_store
from r2p_dspy.errors import ConfigError
from tests.repositories import worded


def message(number, author="ada", who="x"):
    return Message(author, number, *worded(number, who))


def asked(count, author=0, **config):
    return questions(SplitConfig(**config), author, map(message, range(count)), Counter())


@pytest.mark.parametrize(
    ("count", "places"),
    [
        (4, []),
        (5, [("dev", 4)]),
        (6, [("dev", 5), ("train", 4)]),
        (9, [("dev", 8), ("train", 7), ("train", 6), ("train", 5)]),
        (100, [("dev", 99), ("train", 98), ("train", 97), ("train", 96)]),
    ],
)
def test_by_time_the_last_is_reported_and_three_before_it_train(count, places):
    assert [(question.part, question.place) for question in asked(count)] == places


def test_by_user_one_author_in_four_is_reported():
    parts = [{question.part for question in asked(9, author, by="user")} for author in range(8)]
    assert parts == [{"dev"}, {"train"}, {"train"}, {"train"}] * 2
    assert [question.place for question in asked(9, 1, by="user")] == [8, 7, 6]


@given(st.integers(0, 60), st.integers(1, 12), st.integers(0, 12), st.sampled_from(["time", "user"]))
def test_a_history_is_what_came_right_before(count, least, more, by):
    for question in asked(count, 0, min_history=least, max_history=least + more, by=by):
        first = question.place - len(question.history)
        assert least <= len(question.history) <= least + more
        assert question.message == message(question.place)
        assert question.history == [message(place) for place in range(first, question.place)]
        assert first == 0 or len(question.history) == least + more


@pytest.mark.parametrize(
    "copy",
    [
        Message("ada", 9, worded(3)[0], "Something else stands in the body of this one."),
        Message("ada", 9, "another subject", worded(3)[1] + " Again."),
        Message("ada", 9, worded(3)[0].upper() + " 17", "Something else stands in the body of this one."),
    ],
)
def test_near_duplicates_leave_the_history(copy):
    left_out = Counter()
    found = questions(SplitConfig(), 0, [*map(message, range(8)), copy], left_out)
    assert left_out == {"near-duplicates": 1} and found == asked(8)


@pytest.mark.parametrize(("least", "most"), [(0, 4), (5, 4), (-1, -1)])
def test_impossible_lengths_are_refused(least, most):
    with pytest.raises(ConfigError, match="--min-history is at least 1 and at most --max-history"):
        SplitConfig(least, most)


def test_the_store_sorts_by_author_and_time_and_knows_only_hashes():
    with message_store(b"salt") as store:
        assert all(store.add(message(number, author)) for number, author in [(3, "ada"), (1, "bob"), (2, "ada")])
        assert not store.add(message(3, "eve")), "the same body as Ada's"
        authors = {author: [own.time for own in messages] for author, messages in store.authors()}
    assert sorted(authors.values()) == [[1], [2, 3]]
    assert all(len(author) == 16 and int(author, 16) >= 0 for author in authors)


def test_of_one_second_the_last_that_was_read_is_the_oldest():
    with message_store(b"salt") as store:
        for number in range(3):
            store.add(message(number)._replace(time=7))
        [(_, messages)] = ((author, list(own)) for author, own in store.authors())
    assert [own.subject for own in messages] == [worded(number)[0] for number in (2, 1, 0)]


def test_hashes_depend_on_the_salt():
    def hashes(salt):
        with message_store(salt) as store:
            store.add(message(1))
            return [author for author, _ in store.authors()]

    assert hashes(b"a") == hashes(b"a") != hashes(b"b")
