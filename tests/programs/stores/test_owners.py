"""Whose rows are, in data with and without users' names, and in what killed runs and earlier versions left."""

import json

import pytest
from click.testing import CliRunner

import cli
from programs.stores.owners import Owned

NAMED = [{"id": "1", "user": "ada"}, {"id": "2", "user": "bob"}, {"id": "ada", "user": "bob"}]
NAMELESS = [{"id": "1", "user": None}, {"id": "2"}, {"id": 3}]


def forget(user, place):
    result = CliRunner().invoke(cli.cli, ["data", "forget", user, "--in", str(place)])
    assert result.exit_code == 0, result.output
    return result.output


def run_of(folder, rows, **others):
    """A run's directory with measured rows, and other files by their paths."""
    for name, content in {"config.json": {}, "report.json": {}, "results/r2p.jsonl": rows, **others}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_rows = path.suffix == ".jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in content) if is_rows else json.dumps(content))
    return folder


def ids(path):
    """The ids of the rows that are left."""
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "rows, user, left",
    [
        (NAMED, "ada", ["2", "ada"]),  # not the row of bob's that has her name as its id
        (NAMED, "1", ["1", "2", "ada"]),  # an id is no name where rows have names
        (NAMED, "bob", ["1"]),
        (NAMELESS, "2", ["1", 3]),
        (NAMELESS, "3", ["1", "2"]),  # ids may be numbers
        (NAMELESS, "ada", ["1", "2", 3]),
        ([{"id": "1", "user": 7}, {"id": "2", "user": "8"}], "7", ["2"]),
        ([{"id": "1", "user": 'a "b"\n'}, {"id": "2", "user": "é"}], 'a "b"\n', ["2"]),
        ([{"id": "1", "user": "ada"}, {"id": "2", "user": "é"}, {"id": "2", "user": "é"}], "é", ["1"]),  # doubled
    ],
)
def test_a_row_is_of_the_user_whom_it_names_or_of_its_id(tmp_path, rows, user, left):
    run = run_of(tmp_path / "run", rows)
    forget(user, tmp_path)
    assert ids(run / "results/r2p.jsonl") == left


def test_users_without_names_are_told_of(tmp_path):
    for number in range(5):
        run_of(tmp_path / f"run-{number}", NAMELESS)
    run_of(tmp_path / "named", NAMED)
    (line,) = [line for line in forget("ada", tmp_path).splitlines() if "rows that name no user" in line]
    assert f"in {tmp_path}/run-0, {tmp_path}/run-1, {tmp_path}/run-2 and 2 more: " in line
    assert "looked through for the id 'ada'" in line and "forget the ids of the user's other rows too" in line
    assert "name no user" not in forget("ada", tmp_path / "named")


def test_rows_without_names_are_the_users_by_their_ids_in_the_same_run(tmp_path):
    """Judgements, submissions and failures of earlier versions tell an id alone; another run's ids are others'."""
    beside = {
        "results/judge-r2p.jsonl": [{"id": "1", "score": 1}, {"id": "2", "score": 0}],
        "failed.jsonl": [{"program": "cot", "id": "1"}, {"program": "cot", "id": "2"}],
        "submissions/r2p.json": {"golds": [{"id": "1", "output": "x"}, {"id": "2", "output": "y"}]},
        "traces/train.jsonl": [{"id": "1", "prompt": "of another split"}],
    }
    ours = run_of(tmp_path / "ours", NAMED, **beside)
    others = run_of(tmp_path / "others", [{"id": "1", "user": "bob"}], **beside)
    forget("ada", tmp_path)
    for name in ("results/judge-r2p.jsonl", "failed.jsonl"):
        assert ids(ours / name) == ["2"] and ids(others / name) == ["1", "2"]
    assert [gold["id"] for gold in json.loads((ours / "submissions/r2p.json").read_text())["golds"]] == ["2"]
    assert [gold["id"] for gold in json.loads((others / "submissions/r2p.json").read_text())["golds"]] == ["1", "2"]
    assert ids(ours / "traces/train.jsonl") == ["1"]


def test_files_that_name_the_user_are_known(tmp_path):
    """They are cleaned last: a command that was stopped and is repeated still knows the ids."""
    run = run_of(tmp_path, NAMED, **{"failed.jsonl": [{"id": "1"}], "transcripts/r2p.jsonl": NAMED[1:]})
    files = [run / name for name in ("failed.jsonl", "results/r2p.jsonl", "transcripts/r2p.jsonl")]
    assert Owned("ada", files).naming == {files[1]}


@pytest.mark.parametrize(
    "line, expected",
    [
        ('{"id": "1", "user": "ada", "question": {"mail": "the sec', True),
        ('{"id":"1","user":"ada"', True),
        ('{"id": "1", "user": "ada', False),  # nothing of hers is in it
        ('{"id": "1", "user": "adam", "question": {"mail": "x', False),
        ('{"id": "1", "user": "bob", "question": {"mail": "{\\"user\\": \\"ada\\"', False),
    ],
)
def test_half_a_line_is_of_the_user_whom_it_names(tmp_path, line, expected):
    run = run_of(tmp_path, NAMED)
    with (run / "results/r2p.jsonl").open("a") as file:
        file.write(line)
    forget("ada", tmp_path)
    assert (line in (run / "results/r2p.jsonl").read_text()) is not expected


RESPONSES = {"1": [{"output": "a"}], "2": [{"output": "b"}], "3": [{"output": "c"}]}
GOLDS = {"task": "LongLaMP_topic_writing", "golds": [{"id": key, "output": "x"} for key in RESPONSES]}


@pytest.mark.parametrize("content", [RESPONSES, GOLDS], ids=["responses", "golds"])
@pytest.mark.parametrize(
    ("why", "rows", "user", "left"),
    [
        ("by the ids of the user's rows", NAMED, "bob", ["1", "3"]),
        ("by its own id where no row names a user", NAMELESS, "2", ["1", "3"]),
    ],
)
def test_official_files_forget_too(tmp_path, why, rows, user, left, content):
    official = run_of(tmp_path / "run", rows, **{"submissions/r2p.json": content}) / "submissions/r2p.json"
    beside = tmp_path / "answers.submission.json"
    beside.write_text(json.dumps(content))
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    forget(user, tmp_path)
    for path in (official, beside):
        data = json.loads(path.read_text())
        assert [*map(str, data if content is RESPONSES else (gold["id"] for gold in data["golds"]))] == left, why
