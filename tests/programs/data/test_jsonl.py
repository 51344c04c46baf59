"""A user's rows: what comes out of good ones, the one line that comes out of bad ones, and how they are split."""

import json
from pathlib import Path

import pytest

from programs.data.dataset import Data, DataConfig
from programs.data.jsonl import is_jsonl, iter_examples, jsonl
from programs.tasks import lamp4
from programs.tasks.task_file import task_of
from r2p_dspy.errors import DataError
from tests.programs.tasks.test_task_file import GOOD, STARS, written

EXAMPLE = Path(__file__).parents[3] / "examples" / "mail"


def load(task, file, **options):
    return list(iter_examples(task, file, **options))


def row(key="1", **changes):
    item = {"id": "a", "subject": "Rain", "text": "It rained."}
    return {"id": key, "mail": f"mail {key}", "profile": [item], "subject": "Again", "user": f"u{key}"} | changes


def rows(folder, lines, name="rows.jsonl"):
    path = folder / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def mails(tmp_path):
    return task_of(written(tmp_path, GOOD))


def test_row_becomes_example(tmp_path, mails):
    item = {"id": 7, "subject": "", "text": "It rained.", "odd": 1, "date": "2026-05-31"}
    path = rows(tmp_path, [row(1, profile=[item], user=5), "", row("2", user=None, mail="a\u2028b"), " "])
    first, second = load(mails, path)
    assert first.toDict().keys() == {"id", "user", "mail", "profile", "subject"}
    assert (first.id, first.user, first.mail, first.subject) == ("1", "5", "mail 1", "Again")
    assert set(first.inputs().keys()) == {"mail", "profile"}
    assert first.profile[0].model_dump(exclude={"ref"}) == {
        "id": "7",
        "fields": {"subject": "", "text": "It rained."},
        "label": None,
        "date": "2026-05-31",
    }
    (undated,) = load(mails, rows(tmp_path, [row(profile=[item | {"date": "unknown"}])]))
    assert undated.profile[0].date is None
    assert "user" not in second and second.mail == "a\u2028b"


@pytest.mark.parametrize(
    ("written", "user"), [("ann", "ann"), (5, "5"), (5.0, "5"), (None, None), ("", None), (float("nan"), None)]
)
def test_users_from_tables(tmp_path, mails, written, user):
    (example,) = load(mails, rows(tmp_path, [row(user=written)]))
    assert example.get("user") == user


def test_byte_order_mark_and_crlf(tmp_path, mails):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n".join(json.dumps(row(key)).encode() for key in "12") + b"\r\n")
    assert [example.id for example in load(mails, path)] == ["1", "2"]


def test_lone_surrogates_are_replaced(tmp_path, mails):
    item = {"id": "a", "subject": "so\ud83d", "text": "It rained."}
    (example,) = load(mails, rows(tmp_path, [row(mail="\udc00 hi", profile=[item])]))
    assert (example.mail, example.profile[0].text) == ("\ufffd hi", "so\ufffd It rained.")


def test_labels(tmp_path):
    stars = task_of(written(tmp_path, STARS))
    item = {"id": "a", "remark": "fine", "stars": 10.0}
    (example,) = load(stars, rows(tmp_path, [{"id": 1, "remark": "x", "place": "y", "stars": 0, "profile": [item]}]))
    assert (example.stars, example.profile[0].label, set(example.inputs().keys())) == (
        "0",
        "10",
        {"remark", "place", "profile"},
    )


FLAWS = [
    ("{", "line 2: it is not valid JSON"),
    ("[1]", "line 2: it is [1], not an object"),
    ("[" * 100_000, "line 2: it is not valid JSON"),
    ({"id": None}, "line 2: it has no id"),
    ({"id": True}, "line 2: it has no id"),
    ({"id": "1"}, "line 2, row 1: an earlier row has the same id"),
    ({"mail": None}, "line 2, row 2: its mail is None, not a text; it has id, mail, profile"),
    ({"mail": " "}, "line 2, row 2: its mail is ' '"),
    ({"subject": 5}, "line 2, row 2: its subject is 5, not a text"),
    ({"profile": None}, "line 2, row 2: its profile is None, not a list"),
    ({"profile": ["x"]}, "line 2, row 2, item 1: it has no id: 'x'"),
    (
        {"profile": [{"id": "a", "text": "x"}]},
        "line 2, row 2, item a: its subject is None, not a text; it has id, text",
    ),
    ({"profile": [{"id": "a", "text": " ", "subject": ""}]}, "item a: it has no text in subject, text"),
    ({"profile": [{"id": "a", "text": "x", "subject": "y"}] * 2}, "item a: the profile has this id twice"),
    ({"user": ["ann"]}, "line 2, row 2: its user is ['ann'], neither a name nor a number"),
    ({"user": True}, "line 2, row 2: its user is True, neither a name nor a number"),
    ({"mail": float("nan")}, "line 2, row 2: its mail is nan, not a text"),
]


@pytest.mark.parametrize(("flaw", "expected"), FLAWS, ids=[str(row[0])[:40] for row in FLAWS])
def test_flawed_row_names_its_place(tmp_path, mails, flaw, expected):
    path = rows(tmp_path, [row("1"), flaw if isinstance(flaw, str) else row("2", **flaw)])
    with pytest.raises(DataError) as caught:
        load(mails, path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and expected in message and message.splitlines() == [message]
    assert "; " in message, "what to do"


def test_flawed_label_skipped_rows_empty_files(tmp_path, mails):
    stars = task_of(written(tmp_path, STARS))
    flawed = {"id": "1", "remark": "x", "place": "y", "stars": 11, "profile": []}
    with pytest.raises(DataError, match="row 1: its stars is 11, not a label of the task; the task has only 0, 1"):
        load(stars, rows(tmp_path, [flawed]))
    path = rows(tmp_path, [row("1", subject=None), row("2")])
    assert [example.id for example in load(mails, path, skip=["1"])] == ["2"]
    with pytest.raises(DataError, match="no rows except skipped ones"):
        load(mails, path, skip=["1", "2"])
    with pytest.raises(DataError, match="no rows; write"):
        load(mails, rows(tmp_path, [""]))
    path.write_bytes(b'{"id": "\xff"}')
    with pytest.raises(DataError, match="UTF-8"):
        load(mails, path)


def of(task, path, **options):
    return jsonl(task, path, DataConfig(**{"trains": True, **options}))


def test_one_file_is_split_by_user_and_seed(mails):
    data = of(mails, EXAMPLE / "mails.jsonl")
    parts = (data.train, data.dev, data.test)
    people = [{example.user for example in part} for part in parts]
    assert [len(part) for part in parts] == [8, 8, 8] and len(set.union(*people)) == sum(map(len, people)) == 6
    assert data.split == "test" and data.shared_users == 0
    assert of(mails, EXAMPLE / "mails.jsonl").digest == data.digest
    assert len({of(mails, EXAMPLE / "mails.jsonl", seed=seed).digest for seed in range(6)}) > 1
    few = of(mails, EXAMPLE / "mails.jsonl", limit=2)
    assert few.test == data.test[:2] and few.train == data.train
    evaluated = of(mails, EXAMPLE / "mails.jsonl", trains=False)
    assert evaluated.digest == data.digest, "what is reported is never what was compiled on"


@pytest.mark.parametrize(
    ("names", "sizes", "reported"),
    [
        (("train", "dev", "test"), (3, 2, 1), "test"),
        (("train", "test"), (1, 2, 1), "test"),
        (("train", "dev"), (1, 2, 2), "dev"),
    ],
)
def test_directory_of_splits(tmp_path, mails, names, sizes, reported):
    for name, keys in {"train": "abc", "dev": "de", "test": "f"}.items():
        if name in names:
            rows(tmp_path, [row(key, profile=[]) for key in keys], f"{name}.jsonl")
    data: Data = of(mails, tmp_path)
    assert tuple(len(part) for part in (data.train, data.dev, data.test)) == sizes and data.split == reported
    assert is_jsonl(tmp_path) and len(of(mails, tmp_path, trains=False).test) == sizes[2]


def test_unusable_directories(tmp_path, mails):
    with pytest.raises(DataError, match=r"nor a directory with dev.jsonl or test.jsonl, and train.jsonl"):
        of(mails, tmp_path)
    assert not is_jsonl(tmp_path)
    rows(tmp_path, [row("1"), row("2")], "dev.jsonl")
    with pytest.raises(DataError, match=r"train.jsonl"):
        of(mails, tmp_path)
    assert len(of(mails, tmp_path, trains=False).test) == 2
    rows(tmp_path, [row("1")], "train.jsonl")
    with pytest.raises(DataError, match="question 1 is in the training and in the evaluation set"):
        of(mails, tmp_path)
    alone = rows(tmp_path, [row(key, user="u") for key in "123"])
    with pytest.raises(DataError, match=r"rows.jsonl: .*two users"):
        of(mails, alone)
    two = rows(tmp_path, [row("1"), row("2", profile=[])])
    with pytest.raises(DataError, match=r"rows.jsonl: .*two users"):
        of(mails, two)
    assert len(of(mails, two, trains=False).test) == 1, "enough to evaluate on"


THREE_ROWS = r"3 flawed rows: line 2: it is not valid JSON .*; line 3, row 1: its article is 4"


def test_flawed_rows_are_counted_or_left_out(tmp_path):
    file = tmp_path / "rows.jsonl"
    good = [{"id": str(n), "article": f"Rain {n}.", "headline": "Wet", "profile": []} for n in range(3)]
    lines = [json.dumps(good[0]), "{", json.dumps({**good[1], "article": 4}), json.dumps(good[2]), "[]"]
    file.write_text("\n".join(lines))
    with pytest.raises(
        DataError, match=r"3 flawed rows: line 2: it is not valid JSON .*; line 3, row 1: its article is 4"
    ):
        load(lamp4.TASK, file)
    flaws = []
    assert [example.id for example in load(lamp4.TASK, file, left_out=flaws.append)] == ["0", "2"]
    assert [flaw.id for flaw in flaws] == ["line 2", "line 3, row 1", "line 5"]
