"""Checking folders: every flaw is named by id, and what is only to be known is told from what is wrong."""

import json

import pytest

from programs.data.lamp.check import FolderCheck
from programs.data.lamp.row_errors import RowError
from programs.tasks import lamp1, lamp2, lamp3, lamp4
from programs.text import one_line
from r2p_dspy.errors import DataError
from tests.lamp import GOLDS, SAMPLES, item, question, write


def row(task, key, **changes):
    """A good question of a user of its own, with changes."""
    return question(task, key, f"About {key}.", profile=[item(task, key)]) | changes


def folder(path, task, train=(), dev=()):
    """Two splits that begin with a good row each."""
    for split, changes in (("train", train), ("dev", dev)):
        rows = [row(task, split), *(row(task, f"{split}{n}", **more) for n, more in enumerate(changes, start=1))]
        golds = {str(row["id"]): GOLDS[task.lamp] for row in rows if row["id"] is not None}
        write(path, task, rows, golds, split)
    return path


def errors_of(path):
    return [(error.kind, error.id, error.note) for error in FolderCheck(path)]


def history(task, keys, **more):
    return [item(task, key, **more) for key in keys]


def cited(title):
    """A question of task 1 whose right answer is the paper in quotes, for an author who wrote the one of that title."""
    text = lamp1.TASK.wording('Parsing\n[1] A "Grammar" of News\n[2] Deep Sea')
    return {"input": text, "profile": [item(lamp1.TASK, title=title)]}


LEAKED = {"profile": [item(lamp4.TASK, "x"), item(lamp4.TASK, "y", title=" Rain Again ")]}
CITED = cited('A "Grammar" of News')
NEWS = {
    "input": "Which category … article: Rain",
    "profile": [{"id": n, "text": "x", "category": "y"} for n in range(5)],
}
ASKED = {"id": "5", "input": lamp3.TASK.wording("Good.")}


@pytest.mark.parametrize(
    ("why", "module", "train", "dev", "expected"),
    [
        ("nothing", lamp4, {}, {}, []),
        ("a gold in a profile that is reported on", lamp4, {}, LEAKED, [("gold in the profile", "dev1", False)]),
        ("a gold in a profile to train on", lamp4, LEAKED, {}, [("gold in the profile", "train1", True)]),
        ("the paper to cite is in it", lamp1, {}, CITED, [("gold in the profile", "dev1", False)]),
        ("the paper not to cite is in it", lamp1, {}, cited("Deep Sea"), []),
        ("a label is no title", lamp2, {}, {"profile": history(lamp2.TASK, "x", description="comedy")}, []),
        ("no wording", lamp3, {"input": "?"}, {}, [("malformed", "train1", False)]),
        ("two faults", lamp3, {}, {"profile": [{"id": "a"}]}, [("malformed", "dev1", False)] * 2),
        ("no id", lamp3, {"id": None}, {}, [("malformed", "row 2", False)]),
        ("an id twice", lamp3, {"id": "train"}, {}, [("duplicate id", "train", False)]),
        ("an item twice", lamp3, {"profile": history(lamp3.TASK, "aa")}, {}, [("duplicate id", "train1", False)]),
        ("the news", lamp2, NEWS, {}, [("old LaMP_2", "train1", False)]),
        ("a user of both", lamp4, {"user_id": 7}, {"user_id": "7"}, [("user in two splits", "dev1", False)]),
        (
            "a user of both, told by the history",
            lamp4,
            {"profile": history(lamp4.TASK, "xyz")},
            {"profile": history(lamp4.TASK, "wxyz")},
            [("user in two splits", "dev1", False)],
        ),
        (
            "a user of both, later",
            lamp4,
            {"profile": history(lamp4.TASK, "xyz", date="2019")},
            {"profile": history(lamp4.TASK, "wxyz", date="2019-05-03")},
            [("date missing", "train", True), ("date missing", "dev", True), ("user in two splits", "dev1", True)],
        ),
        ("a question of both", lamp3, ASKED, ASKED, [("question in two splits", "5", False)]),
        ("an id of both", lamp3, ASKED, {"id": "5"}, []),
    ],
)  # fmt: skip
def test_errors_by_id(tmp_path, why, module, train, dev, expected):
    changes = [[more] if more else [] for more in (train, dev)]
    assert errors_of(folder(tmp_path, module.TASK, *changes)) == expected


def test_counts(tmp_path):
    checked = FolderCheck(
        folder(tmp_path, lamp4.TASK, [{"input": None}], [{"profile": history(lamp4.TASK, "xy", date=2020)}])
    )
    assert len(list(checked)) == 3
    assert checked.task is lamp4.TASK
    assert [(split.name, split.rows, split.ids, split.items, split.dated) for split in checked.splits] == [
        ("train", 2, ["train"], 1, 0),
        ("dev", 2, ["dev", "dev1"], 3, 2),
    ]


def test_test_questions_need_no_golds(tmp_path):
    folder(tmp_path, lamp4.TASK)
    write(tmp_path, lamp4.TASK, [row(lamp4.TASK, "test"), row(lamp4.TASK, "test1", input="")], {}, "test")
    (tmp_path / "test_outputs.json").unlink()
    assert errors_of(tmp_path) == [("malformed", "test1", False)]


def test_broken_file_does_not_hide_the_next(tmp_path):
    folder(tmp_path, lamp4.TASK, [{"input": ""}], [{"input": ""}])
    path = tmp_path / "train_questions.json"
    path.write_text(path.read_text()[:-1])
    (tmp_path / "pilot_questions.json").write_text("[]")
    unusable = ("unusable file", "", False)
    assert errors_of(tmp_path) == [("malformed", "train1", False), unusable, ("malformed", "dev1", False), unusable]


def test_task_from_the_files_or_given(tmp_path):
    folder(tmp_path, lamp4.TASK)
    assert [flaw.kind for flaw in FolderCheck(tmp_path, lamp3.TASK)] == ["unusable file"] * 2
    (tmp_path / "dev_outputs.json").write_text("{")
    assert FolderCheck(tmp_path).task is lamp4.TASK
    for task in ("LaMP_9", ["LaMP_4"], {}, None):
        (tmp_path / "train_outputs.json").write_text(json.dumps({"task": task}))
        with pytest.raises(DataError, match="names its task, which of LaMP_1.* give --task"):
            FolderCheck(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="it has neither {train,dev}"):
        FolderCheck(tmp_path)
    with pytest.raises(DataError, match="no such file or directory"):
        FolderCheck(tmp_path / "elsewhere")


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb\u2028c", "a\ud800b", "a\u202eb", "tab\tbed", "a\x00b\x9bc"])
def test_message_is_one_safe_line(tmp_path, text):
    message = str(RowError(tmp_path, text, f"question {text}", text, text))
    assert message.isprintable() and message.startswith(f"{tmp_path}: question a" if text[0] == "a" else str(tmp_path))
    assert one_line("naïve 漢字 🙂") == "naïve 漢字 🙂"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample data is not part of the checkout")
@pytest.mark.parametrize(
    ("name", "notes"),
    [
        ("acl_LaMP5like", {}),
        ("blog18f_LaMP4like", {"gold in the profile": 1, "date missing": 47, "user in two splits": 36}),
    ],
)
def test_real_data_has_no_errors(name, notes):
    flaws = list(FolderCheck(SAMPLES / name))
    assert all(flaw.note for flaw in flaws)
    assert {kind: sum(flaw.kind == kind for flaw in flaws) for kind in notes} == notes and len(flaws) == sum(
        notes.values()
    )
