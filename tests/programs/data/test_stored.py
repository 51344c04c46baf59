"""Histories in a file: the same to whoever reads them, and not in memory until then."""

import copy
import errno
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from programs.data import stored
from programs.data.dataset import DataConfig, lamp
from programs.data.splits import check_apart, users
from programs.tasks import lamp2
from r2p_dspy import BM25, All, Dense, Hybrid, Profile, Random, Recency
from r2p_dspy.errors import DataError
from r2p_dspy.profile import Item
from tests.embedders import hashed
from tests.lamp import item, question, write

TEXTS = st.text(st.characters(), min_size=1).filter(str.strip)  # halves of characters among them
DENSE = Dense(hashed)


def example(name, texts, **more):
    items = [
        Item(id=str(n), fields={"text": text}, label="a", date=f"2020-01-{n + 1:02}") for n, text in enumerate(texts)
    ]
    return dspy.Example(id=name, asked="a storm", profile=Profile(items=items), **more).with_inputs("asked", "profile")


@settings(max_examples=50)
@given(st.lists(st.lists(TEXTS, max_size=4), min_size=1, max_size=4))
def test_histories_are_unchanged(histories):
    plain = [example(str(n), texts, gold="x") for n, texts in enumerate(histories)]
    kept = stored.stored(plain)
    assert kept == plain and plain == kept and stored.in_memory(kept) == plain
    for after, before in zip(kept, plain, strict=True):
        profile = after.inputs()["profile"]
        assert set(after.inputs().keys()) == {"asked", "profile"} and after.gold == "x"
        assert (len(profile), bool(profile), list(profile)) == (
            len(before.profile),
            bool(before.profile),
            [*before.profile],
        )
        assert profile.local() == before.profile.local() and repr(profile) == repr(before.profile)
        assert json.dumps(after.toDict()) == json.dumps(before.toDict())
        assert profile[:1] == before.profile[:1] and profile.get("0") == before.profile.get("0")


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda kept: pickle.loads(pickle.dumps(kept))])
def test_copy_is_a_plain_example(copier):
    (kept,) = stored.stored([example("1", ["a storm", "rain"])])
    copied = copier(kept)
    assert copied == kept and type(copied.profile.items) is list


@pytest.mark.parametrize(
    "retriever",
    [BM25(2), Recency(2), Random(2), All(), DENSE, Hybrid(BM25(2), DENSE, k=2)],
    ids=lambda retriever: type(retriever).__name__,
)
def test_retrievers_return_the_same(retriever):
    plain = example("1", ["rain", "a storm again", "the sea", "a ship"])
    (kept,) = stored.stored([plain])
    assert retriever("a storm", kept.profile) == retriever("a storm", plain.profile)


def test_many_threads_read_from_disk(monkeypatch):
    monkeypatch.setattr(stored, "_IN_MEMORY", 100)
    monkeypatch.setattr(stored, "_LAST", 2)
    plain = [example(str(n), [f"text {n} {m}" for m in range(5)]) for n in range(100)]
    kept = stored.stored(plain)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(lambda row: [*row.profile], kept * 3)] == [[*row.profile] for row in plain * 3]


def test_items_are_not_kept_in_memory(monkeypatch):
    monkeypatch.setattr(stored, "_LAST", 1)
    kept = stored.stored(example(str(n), ["x"]) for n in range(3))
    held = [row.profile.items for row in kept]
    assert held[0][0] is held[0][0], "looked at twice, read once"
    first = held[0][0]
    assert held[1][0] is not None and held[0][0] is not first, "read anew"


def test_users_are_the_same():
    histories = [["a", "b", "c"], ["a", "b", "c", "d"], ["e", "f", "g"]]
    plain = [example(str(n), texts) for n, texts in enumerate(histories)]
    kept = stored.stored(plain)
    assert users(kept) == users(plain) == [0, 0, 1]
    assert check_apart(kept[:1], kept[1:]) == 1


def test_training_sets_are_in_memory(tmp_path):
    for split in ("train", "dev"):
        names = [f"{split}{n}" for n in range(20)]
        rows = [question(lamp2.TASK, name, name, profile=[item(lamp2.TASK, name)]) for name in names]
        for row in rows:
            row["profile"][0]["description"] = row["id"]
        write(tmp_path, lamp2.TASK, rows, dict.fromkeys(names, "comedy"), split)
    data = lamp(lamp2.TASK, tmp_path, DataConfig(trains=True))
    assert {type(row.profile.items) for row in [*data.train, *data.dev]} == {list}
    assert [row.profile[0].text for row in data.test] == [row.id for row in data.test]


def test_full_disk_is_one_line(monkeypatch):
    class Full:
        def write(self, raw):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stored.tempfile, "SpooledTemporaryFile", lambda max_size: Full())
    with pytest.raises(DataError, match=r"No space left on device.*TMPDIR") as error:
        stored.stored([example("1", ["x"])])
    assert "\n" not in str(error.value)
