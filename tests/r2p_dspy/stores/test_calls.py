"""Calls that name a user: R2P with a profile store."""

import asyncio
import pickle
import re
import threading

import cloudpickle
import dspy
import pytest

from r2p_dspy import BM25, R2P, ConfigError, Profile
from r2p_dspy.retrieval import index as index_module
from r2p_dspy.stores import Histories
from tests.film import FILM, HISTORY, Film, program
from tests.scripted import completion


class FilmOfUser(dspy.Signature):
    """Tag a film."""

    user: str = dspy.InputField()
    film: str = dspy.InputField()
    profile: Profile = dspy.InputField()
    tag: str = dspy.OutputField()


@pytest.fixture
def full(store):
    store.append("ada", HISTORY)
    return store


def refs(answer):
    return [item.ref for item in answer.details.retrieved]


def test_a_named_user_is_answered_as_if_the_profile_were_given(scripted, full):
    engine, histories = scripted(*[completion()] * 3), Histories(full, few=0)
    named = program(store=histories)(film=FILM, user="ada")
    given = program()(film=FILM, profile=HISTORY)
    awaited = asyncio.run(program(store=histories).acall(film=FILM, user="ada"))
    assert named.toDict() == given.toDict() == awaited.toDict()
    assert refs(named) == refs(given) == refs(awaited) == [item["id"] for item in HISTORY]
    assert len({*engine.prompts()}) == 1
    assert named.details.warnings == given.details.warnings


@pytest.mark.parametrize("given", [HISTORY[:1], []])
def test_a_profile_that_is_given_wins(scripted, full, given):
    scripted(completion(evidence="[]"), completion(evidence="[]"), completion(evidence="[]"))
    answer = program(store=full, on_unmet="return")(film=FILM, profile=given, user="ada")
    assert refs(answer) == [item["id"] for item in given]


def test_a_call_without_a_store_says_what_is_missing(full):
    with pytest.raises(ConfigError, match=r"a call with user='ada' needs a store: set program.store = open_store"):
        program()(film=FILM, user="ada")
    with pytest.raises(ConfigError, match="is no profile store"):
        program(store="sqlite:///x")


def test_a_signature_may_have_a_user_of_its_own(scripted, full):
    scripted(*[completion()] * 2)
    answer = program(signature=FilmOfUser, store=full)(film=FILM, user="ada")
    assert refs(answer) == [item["id"] for item in HISTORY]
    scripted(completion(evidence="[]"), completion(evidence="[]"), completion(evidence="[]"))
    assert refs(program(signature=FilmOfUser, on_unmet="return")(film=FILM, user="ada")) == []


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_saved_programs_do_not_carry_the_store(scripted, full, pickler, tmp_path):
    made = program(store=full)
    loaded = pickler.loads(pickler.dumps(made))
    assert loaded.store is None
    with pytest.raises(ConfigError, match="needs a store"):
        loaded(film=FILM, user="ada")
    loaded.store = full
    scripted(completion())
    assert refs(loaded(film=FILM, user="ada")) == [item["id"] for item in HISTORY]
    made.save(tmp_path / "program.json")
    assert not {"sqlite", "postgresql"} & {*re.findall(r"\w+", (tmp_path / "program.json").read_text())}


def test_copies_of_a_program_share_its_store(full):
    made = program(store=full)
    assert made.deepcopy().store is full
    assert made.reset_copy().histories is made.histories


def test_under_evaluate_with_threads(scripted, full):
    scripted(*[completion()] * 8)
    rows = [dspy.Example(film=FILM, user="ada", tag="romance").with_inputs("film", "user")] * 8
    result = dspy.Evaluate(devset=rows, metric=lambda row, answer: answer.tag == row.tag, num_threads=4)(
        program(store=full)
    )
    assert result.score == 100


def test_what_is_appended_is_seen_by_the_next_call(store):
    histories = Histories(store, few=0)
    assert histories.read("ada", "").items == Profile()
    for number in range(1, 5):
        store.append("ada", [{"id": str(number), "text": f"note {number}"}])
        assert [item.id for item in histories.read("ada", "").items] == [str(n) for n in range(1, number + 1)]
    store.update("ada", [{"id": "2", "text": "changed"}])
    assert histories.read("ada", "").items.get("2").text == "changed"
    same = histories.read("ada", "").items
    assert histories.read("ada", "").items is same, "an unchanged history stays in memory"
    store.delete_user("ada")
    assert histories.read("ada", "").items == Profile()


class Plain:
    """A store with the protocol's methods alone."""

    def __init__(self, store):
        self.reads = 0
        for name in ("append", "update", "expire", "delete_user", "version", "close"):
            setattr(self, name, getattr(store, name))
        self._get = store.get

    def get(self, user, limit=None, since=None):
        self.reads += 1
        return self._get(user, limit, since)


def test_a_store_of_ones_own_needs_the_protocol_alone(store):
    plain = Plain(store)
    histories = Histories(plain, few=0)
    plain.append("ada", ["rain"])
    assert len(histories.read("ada", "").items) == len(histories.read("ada", "").items) == 1
    assert plain.reads == 1
    plain.append("ada", ["sea"])
    assert [item.text for item in histories.read("ada", "").items] == ["rain", "sea"]
    assert histories.delete_user("ada") == 2
    assert histories.read("ada", "").items == Profile()


def test_a_deleted_user_is_gone_from_memory(store):
    store.append("ada", [{"id": str(number), "text": f"note {number} of xylophones"} for number in range(5)])
    histories = Histories(store, few=0)
    BM25(k=1)("xylophones", histories.read("ada", "").items)
    assert any("xylophones" in kept for key in index_module._indexes._slots for kept in map(str, key))
    histories.delete_user("ada")
    assert not any("xylophones" in kept for key in index_module._indexes._slots for kept in map(str, key))
    assert histories._kept.peek("ada") is None


def test_memory_is_bounded_in_items(store):
    histories = Histories(store, few=0, kept=10)
    for user in range(9):
        store.append(user, [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}])
        histories.read(user, "")
    assert [user for user in range(9) if histories._kept.peek(str(user))] == [6, 7, 8]


def test_threads_that_read_while_others_write_see_whole_appends(store):
    histories, wrong, done = Histories(store, few=0), [], threading.Event()

    def read():
        while not done.is_set():
            seen = [item.id for item in histories.read("ada", "").items]
            if seen != [str(number) for number in range(len(seen))] or len(seen) % 2:
                wrong.append(seen)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(0, 20, 2):
        store.append("ada", [{"id": str(number + place), "text": "x"} for place in range(2)])
    done.set()
    for reader in readers:
        reader.join()
    assert not wrong


@pytest.mark.parametrize(
    "own, options, ids, warning",
    [
        (0, {}, [], "the user has 0 items in the store, so the answer knows little of them"),
        (2, {}, ["0", "1"], "the user has 2 items in the store, so the answer knows little of them"),
        (3, {}, ["0", "1", "2"], None),
        (2, {"few": 0}, ["0", "1"], None),
        (
            1,
            {"segment": "readers"},
            ["0", "readers/b", "readers/a"],
            "the user has 1 item in the store, so 2 of readers were",
        ),
        (1, {"segment": lambda user: f"like {user}"}, ["0"], "knows little"),
        (1, {"segment": lambda user: None}, ["0"], "knows little"),
        (2, {"segment": "readers"}, ["0", "1", "readers/b"], "2 items in the store, so 1 of readers was"),
        (3, {"segment": "readers"}, ["0", "1", "2"], None),
    ],
)
def test_the_policy_for_users_who_are_new(store, own, options, ids, warning):
    store.append("readers", [{"id": "a", "text": "a storm"}, {"id": "b", "text": "a wizard"}])
    store.append("ada", [{"id": str(number), "text": "rain"} for number in range(own)])
    history = Histories(store, **options).read("ada", "the wizard")
    assert [item.id for item in history.items] == ids
    assert (warning is None and not history.warnings) or warning in history.warnings[0]


def test_items_of_a_segment_are_marked_in_the_answer(scripted, store):
    store.append("readers", HISTORY)
    scripted(completion())
    answer = program(store=Histories(store, segment="readers"), on_unmet="return")(film=FILM, user="new")
    assert {*refs(answer)} == {f"readers/{item['id']}" for item in HISTORY}
    assert answer.reasoning.cited[0].ref is None or answer.reasoning.cited[0].id.startswith("readers/")
    assert any("2 of readers were added" in warning for warning in answer.warnings)


@pytest.mark.parametrize("options", [{"few": -1}, {"few": True}, {"kept": 1.5}])
def test_a_policy_that_cannot_hold_is_refused(store, options):
    with pytest.raises(ConfigError, match="is a number of items"):
        Histories(store, **options)


def test_a_long_history_is_asked_by_the_query(scripted, store):
    store.append("ada", [{"id": "rare", "text": "the keeper of a lighthouse"}])
    store.append("ada", [{"id": str(number), "text": f"note {number}"} for number in range(900)])
    scripted(*[completion(evidence="[]", preferences="[]")] * 3)
    answer = R2P(Film, retriever=BM25(k=2), store=store, on_unmet="return")(film=FILM, user="ada")
    assert refs(answer)[0] == "rare"
