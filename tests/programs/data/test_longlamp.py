"""LongLaMP: what its rows become, from the hub and from files, and what is reported."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from programs.data.dataset import DataConfig
from programs.data.getting import get as get_files
from programs.data.lamp.check import FolderCheck
from programs.data.longlamp.official import get
from programs.data.reading import read_examples
from programs.tasks import TASKS
from r2p_dspy.errors import DataError
from tests.lamp import SAMPLES, load
from tests.web import serve

TOPIC, ABSTRACT, REVIEW = (TASKS[f"longlamp-{name}"] for name in ("topic", "abstract", "review"))
LIKE = SAMPLES / "digitalgov_LongLaMPlike"


def write(folder, task, split, rows, golds=True):
    """Rows of (id, input, items, gold) as files of LaMP's shape."""
    questions = [{"id": key, "input": text, "profile": items} for key, text, items, _ in rows]
    (folder / f"{split}_questions.json").write_text(json.dumps(questions))
    if golds:
        outputs = {"task": task.lamp, "golds": [{"id": key, "output": gold} for key, _, _, gold in rows]}
        (folder / f"{split}_outputs.json").write_text(json.dumps(outputs))


def posts(name, count=3):
    return [{"id": f"{name}{n}", "summary": f"on {name} {n}", "content": f"{name} wrote of {n}."} for n in range(count)]


@pytest.mark.parametrize(
    ("why", "item", "fields"),
    [
        ("the data set's names", {"summary": "on rain", "content": "It rained."}, ["summary", "text"]),
        ("the names of LongLaMP's code", {"input": "on rain", "output": "It rained."}, ["summary", "text"]),
        ("a title too", {"title": "Wet", "summary": "on rain", "text": "It rained."}, ["title", "summary", "text"]),
    ],
)
def test_items_under_any_of_their_names(tmp_path, why, item, fields):
    write(tmp_path, TOPIC, "dev", [("1", "Generate the content for a reddit post Rain.", [{"id": "a", **item}], "It.")])
    (example,) = load(TOPIC, tmp_path, "dev")
    assert [*example.profile[0].fields] == fields, why
    assert example.profile[0].fields["text"] == "It rained." and example.post == "It."
    assert example.request == "Generate the content for a reddit post Rain."


def test_numbers_are_texts(tmp_path):
    item = {"id": "a", "overall": 5.0, "summary": "Dry", "description": "Boots", "reviewText": "I wore them."}
    write(tmp_path, REVIEW, "dev", [("1", "Generate the review …", [item], "Wet.")])
    (example,) = load(REVIEW, tmp_path, "dev")
    assert example.profile[0].fields["overall"] == "5.0", "as the official script prints it"


@pytest.mark.parametrize(
    ("why", "item", "said"),
    [
        ("no text", {"summary": "on rain"}, "question 1, item a: its text is None, not a text"),
        ("a list", {"summary": ["x"], "content": "y"}, "question 1, item a: its summary is ['x'], not a text"),
        ("blank", {"summary": " ", "content": ""}, "question 1, item a: it has no text in summary, text"),
    ],
)
def test_flawed_items_are_named(tmp_path, why, item, said):
    write(tmp_path, TOPIC, "dev", [("1", "Generate …", [{"id": "a", **item}], "It rained.")])
    with pytest.raises(DataError) as caught:
        load(TOPIC, tmp_path, "dev")
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1, why


def split_rows(name, count):
    return [(f"{name}-{n}", f"Post of {name} {n}", posts(f"{name}{n}"), f"Gold {name} {n}") for n in range(count)]


def test_test_is_reported_where_its_golds_are(tmp_path):
    for split, count in (("train", 4), ("dev", 3), ("test", 2)):
        write(tmp_path, TOPIC, split, split_rows(split, count))
    data = read_examples(TOPIC, DataConfig(str(tmp_path), trains=True))
    sizes = (len(data.train), len(data.dev), len(data.test), data.split)
    assert sizes == (4, 3, 2, "test")
    (tmp_path / "test_outputs.json").unlink()
    assert read_examples(TOPIC, DataConfig(str(tmp_path), trains=True)).split == "dev"


def test_split_without_golds_says_predict(tmp_path):
    write(tmp_path, TOPIC, "test", split_rows("test", 2), golds=False)
    with pytest.raises(DataError, match=r"has no golds \(test_outputs.json\); answer it with `predict`"):
        read_examples(TOPIC, DataConfig(str(tmp_path)))


def test_check_finds_the_gold_in_a_history(tmp_path):
    leaked = [*posts("ann"), {"id": "z", "summary": "s", "content": " Gold "}]
    write(tmp_path, TOPIC, "dev", [("1", "Post", leaked, "Gold"), ("2", "Post", posts("bob"), "on bob 1")])
    assert [(error.kind, error.id) for error in FolderCheck(tmp_path)] == [("gold in the profile", "1")]


@pytest.mark.skipif(not LIKE.is_dir(), reason="the sample data is not part of the checkout")
def test_real_posts_in_longlamps_format():
    check = FolderCheck(LIKE)
    assert [error for error in check if not error.note] == []
    assert {split.name: len(split.ids) for split in check.splits} == {"train": 137, "dev": 47}
    data = read_examples(check.task, DataConfig(str(LIKE), limit=5))
    assert check.task is TOPIC and len(data.test) == 5
    assert all({"title", "summary", "text"} == {*item.fields} for example in data.test for item in example.profile)


HUB = {  # a row of each task, as the hub has it
    "abstract_generation": {
        "name": "Ann Lee",
        "input": 'Generate an abstract for the title "Rain" using the following items: 1. wet',
        "output": "It rains.",
        "profile": [{"id": "p1", "title": "Sun", "abstract": "It shines.", "year": 2014}],
    },
    "topic_writing": {
        "author": "ann",
        "input": "Generate the content for a reddit post Rain",
        "output": "It rains.",
        "profile": [{"id": "p1", "summary": "Sun", "content": "It shines.", "author": "ann"}],
    },
    "product_review": {
        "reviewerId": "A1",
        "input": "Generate the review text …",
        "output": "It leaks.",
        "profile": [{"overall": 4.0, "summary": None, "description": "Boots", "reviewText": "Dry."}] * 2,
    },
}


def hub(config, rows, tmp_path, dataset="LongLaMP/LongLaMP", splits=("train", "val", "test")):
    """The files of a hub with two Parquet files for each split, as (files by path, a function of the address)."""
    files = {}
    for split in splits:
        names = []
        for number, part in enumerate((rows[:1], rows[1:])):
            path = tmp_path / "part.parquet"
            parquet.write_table(pa.Table.from_pylist([{**row, "input": f"{row.get('input')}"} for row in part]), path)
            names.append(f"/files/{config}/{split}/{number}.parquet")
            files[names[-1]] = path.read_bytes()
        files[f"/api/datasets/{dataset}/parquet/{config}/{split}"] = names
    return files


def listed(files, address):
    return {
        path: body if isinstance(body, bytes) else json.dumps([address + name for name in body]).encode()
        for path, body in files.items()
    }


@pytest.mark.parametrize(("task", "by", "config"), [
    (ABSTRACT, "user", "abstract_generation_user"),
    (TOPIC, "time", "topic_writing_temporal"),
    (REVIEW, "user", "product_review_user"),
])  # fmt: skip
def test_download_and_load(tmp_path, task, by, config):
    row = HUB[config.rpartition("_")[0]]
    files = hub(config, [row, row], tmp_path)
    with serve({}, kind="application/octet-stream") as (address, web):
        web.files |= listed(files, address)
        names = get(task, by, tmp_path / "out", test=True, base=address)
        asked = len(web.asked)
        assert get(task, by, tmp_path / "out", test=True, base=address) == [] and len(web.asked) == asked
    assert names == [f"{split}_{kind}.json" for split in ("train", "dev", "test") for kind in ("questions", "outputs")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*names, "source.json"])
    first, second = load(task, tmp_path / "out", "test")
    assert (first.id, second.id, first[task.answer]) == ("test-0", "test-1", row["output"])
    assert first.user == (row.get("name") or row.get("author") or row.get("reviewerId"))
    assert [item.id for item in first.profile] == (
        [item["id"] for item in row["profile"]] if task != REVIEW else ["1", "2"]
    )
    assert first.profile[0].date == ("2014" if task == ABSTRACT else None)


def test_stopped_download_goes_on(tmp_path):
    files = hub("topic_writing_user", [HUB["topic_writing"]] * 2, tmp_path, splits=("train", "val"))
    gone = "/files/topic_writing_user/val/1.parquet"
    with serve({}, kind="application/octet-stream") as (address, web):
        web.files |= listed({path: body for path, body in files.items() if path != gone}, address)
        with pytest.raises(DataError, match="404.*datasets/LongLaMP/LongLaMP has the data set"):
            get(TOPIC, "user", tmp_path / "out", base=address)
        assert (tmp_path / "out/train_outputs.json").exists() and not (tmp_path / "out/dev_questions.json").exists()
        web.files[gone] = files[gone]
        before = len(web.asked)
        assert get(TOPIC, "user", tmp_path / "out", base=address) == ["dev_questions.json", "dev_outputs.json"]
        assert len(web.asked) == before + 1
    assert len(load(TOPIC, tmp_path / "out", "dev")) == 2


@pytest.mark.parametrize(
    ("why", "body", "said"),
    [
        ("an error instead of a list", b'{"error": "no"}', "lists no files"),
        ("no files yet", b"[]", "lists no files"),
        ("a page", b"<html>", "a web page"),
        ("a file that is none", b'["ADDRESS/none"]', "is no Parquet file"),
    ],
)
def test_hub_that_cannot_be_used(tmp_path, why, body, said):
    with serve({}, kind="application/octet-stream") as (address, web):
        web.files["/api/datasets/LongLaMP/LongLaMP/parquet/topic_writing_user/train"] = body.replace(
            b"ADDRESS", address.encode()
        )
        web.files["/none"] = b"not parquet"
        with pytest.raises(DataError) as caught:
            get(TOPIC, "user", tmp_path / "out", base=address)
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1, why
    assert not [*(tmp_path / "out").glob("train_*")]


@pytest.mark.parametrize(
    ("task", "by", "said"),
    [
        ("longlamp-email", "user", "LDC2015T03.*licence; https://"),
        ("longlamp-topic", None, "give --split time or --split user"),
        ("lampqa-art", "user", "LaMP-QA has one split; leave out --split user"),
    ],
)
def test_what_cannot_be_got(tmp_path, task, by, said):
    with pytest.raises(ValueError, match=said):
        get_files(TASKS[task], by, tmp_path / "out", test=False, progress=lambda *_: None)
    assert not (tmp_path / "out").exists()
