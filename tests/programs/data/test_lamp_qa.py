"""LaMP-QA's files: what comes out of good rows, and the one line that comes out of bad ones."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from metrics.rubric import Rubric
from programs.data.at_hand import folders
from programs.data.dataset import DataConfig
from programs.data.lamp.check import FolderCheck
from programs.data.lamp.reading import iter_examples
from programs.data.lamp.show import read_example, text
from programs.data.lamp_qa.official import get
from programs.data.lamp_qa.responses import responses_of, rubrics_of
from programs.data.reading import read_examples
from r2p_dspy.errors import DataError
from tests.programs.data.test_longlamp import listed
from tests.rubrics import ASPECTS, TASK, question, write
from tests.web import serve


def load(folder, split="dev", **options):
    return list(iter_examples(TASK, folder, split, **options))


def test_row_becomes_example(tmp_path):
    write(tmp_path, [question("7")])
    (example,) = load(tmp_path)
    assert {*example.toDict()} == {"id", "question", "profile", "rubric"}
    assert {*example.inputs().keys()} == {"question", "profile"}, "the program never sees what it is judged by"
    assert isinstance(example.rubric, Rubric) and [aspect.model_dump() for aspect in example.rubric.aspects] == ASPECTS
    assert example.rubric.narrative.startswith("I am 7.") and len(example.profile) == 3


FLAWS = [
    ("no narrative", {"narrative": None}, "question 2: its narrative is None, not a text; a split without rubrics"),
    ("a blank narrative", {"narrative": " "}, "question 2: its narrative is ' ', not a text"),
    ("no rubric", {"rubric_aspects": None}, "question 2: its rubric_aspects is None, not a list"),
    ("no aspects", {"rubric_aspects": []}, "question 2: its rubric has no aspects"),
    ("an aspect that is none", {"rubric_aspects": [ASPECTS[0], "ink"]}, "question 2, aspect 2: it is 'ink'"),
    (
        "an aspect without a reason",
        {"rubric_aspects": [{"aspect": "x", "evidence": "y"}]},
        "aspect 1: its reason is None",
    ),
    ("an aspect without a title", {"rubric_aspects": [{**ASPECTS[0], "aspect": " "}]}, "aspect 1: its aspect is ' '"),
    ("no question", {"question": 5}, "question 2: its question is 5, not a text; it has id, question"),
    ("no profile", {"profile": None}, "question 2: its profile is None, not a list of items"),
    ("an item twice", {"profile": [{"id": "a", "text": "x"}] * 2}, "question 2, item a: the profile has this id twice"),
    ("an item without text", {"profile": [{"id": "a", "text": None}]}, "question 2, item a: its text is None"),
    ("the same id", {"id": "1"}, "question 1: the file has this id twice"),
    ("no id", {"id": None}, "row 2: it has no id"),
]


@pytest.mark.parametrize(("why", "flaw", "said"), FLAWS, ids=[row[0] for row in FLAWS])
def test_flawed_row_is_named(tmp_path, why, flaw, said):
    path = write(tmp_path, [question("1"), question("2", **flaw), question("3")])
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    message = str(caught.value)
    assert said in message and message.startswith(str(path)) and message.splitlines() == [message]
    assert any(said in str(error) for error in FolderCheck(tmp_path))
    left_out = []
    assert [example.id for example in load(tmp_path, left_out=left_out.append)] == ["1", "3"] and len(left_out) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [("[", "not valid JSON"), ("{}", "it has no questions"), (None, r"cannot be read \(No such file")],
)
def test_unusable_file(tmp_path, content, said):
    if content is not None:
        write(tmp_path, content)
    with pytest.raises(DataError, match=said):
        load(tmp_path)


def test_every_row_of_a_split_without_rubrics_is_named(tmp_path):
    hidden = {"narrative", "rubric_aspects"}
    bare = [{name: value for name, value in question(key).items() if name not in hidden} for key in "12"]
    write(tmp_path, bare, "test")
    with pytest.raises(DataError, match="2 flawed rows: question 1: its narrative.*answer it with `predict`"):
        read_examples(TASK, DataConfig(str(tmp_path)))


def test_validation_or_test_is_reported(tmp_path):
    write(tmp_path, [question(f"t{n}") for n in range(4)], "train")
    write(tmp_path, [question(f"v{n}") for n in range(2)])
    data = read_examples(TASK, DataConfig(str(tmp_path), trains=True))
    assert (data.split, len(data.test), len(data.train) + len(data.dev)) == ("dev", 2, 4)
    write(tmp_path, [question("x")], "test")
    data = read_examples(TASK, DataConfig(str(tmp_path), trains=True))
    assert (data.split, len(data.test), len(data.train), len(data.dev)) == ("test", 1, 4, 2)


def test_check_and_show(tmp_path):
    told = question("2")
    told["profile"][0]["text"] = f"Which pen? {told['narrative']}"
    write(tmp_path, [question("1"), told])
    check = FolderCheck(tmp_path)
    assert [(error.kind, error.id) for error in check] == [("gold in the profile", "2")]
    assert check.task is TASK and [len(split.ids) for split in check.splits] == [2]
    shown = text(TASK, read_example(TASK, tmp_path, "dev", "1"))
    for words in ("question: Which pen for 1?", "history: 3 items", "I am 1. I write with", "- Quick ink: the hand"):
        assert words in shown
    assert folders(TASK, tmp_path) == [tmp_path]


def test_download(tmp_path):
    rows = [question("1"), question("2")]
    files = {}
    for split in ("train", "validation"):
        path = tmp_path / "part.parquet"
        parquet.write_table(pa.Table.from_pylist(rows), path)
        files[f"/files/{split}"] = path.read_bytes()
        files[f"/api/datasets/alireza7/LaMP-QA/parquet/{TASK.shape}/{split}"] = [f"/files/{split}"]
    with serve({}, kind="application/octet-stream") as (address, web):
        web.files |= listed(files, address)
        names = get(TASK, tmp_path / "out", base=address)
    assert names == [f"{TASK.shape}_train.json", f"{TASK.shape}_validation.json"]
    assert [example.id for example in load(tmp_path / "out")] == ["1", "2"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*names, "source.json"])


@pytest.mark.parametrize(
    ("why", "data", "said"),
    [
        ("nothing", {}, "it has no responses"),
        ("LaMP's shape", [{"id": "1"}], "it has no responses"),
        ("a text", {"1": "Buy."}, "question 1 has 'Buy.', and no list with a response"),
        ("no response", {"1": []}, r"question 1 has \[\]"),
        ("no output", {"1": [{"text": "Buy."}]}, "a response to question 1 has no output"),
    ],
)
def test_response_files_of_another_shape(why, data, said):
    with pytest.raises(DataError, match=said):
        responses_of(data)


def test_a_file_name_says_the_category(tmp_path):
    path = write(tmp_path, [question("1")], "test")
    task, rubrics = rubrics_of(path)
    assert task is TASK and [*rubrics] == ["1"]
    assert rubrics_of(path.rename(tmp_path / "golds.json")) is None
