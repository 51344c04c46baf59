"""Run directories: never overwritten, resumed only as what they were, and never half read."""

import json
import os

import pytest

from programs.runs.directory import Rows, Run, write_json
from r2p_dspy.errors import RunError

CONFIG = {"command": "evaluate", "task": "lamp2", "limit": None, "seed": 0}


def unfinished(path):
    with Run(path, CONFIG) as run:
        run.rows("r2p").append({"id": "1"})


def finished(path):
    with Run(path, CONFIG) as run:
        run.finish({"task": "lamp2"})


def foreign(path):
    path.mkdir()
    (path / "thesis.tex").write_text("dear")


def a_file(path):
    path.write_text("dear")


def nothing(path):
    pass


def empty(path):
    path.mkdir(parents=True)


def a_broken_config(path):
    path.mkdir()
    (path / "config.json").write_text('{"task": "la')


REFUSED = [
    # why, what is there, the options, whether to resume, what the message must hold
    ("a finished run", finished, CONFIG, False, "holds a finished run; give another --output or remove it"),
    ("a finished run, resumed", finished, CONFIG, True, "holds a finished run"),
    ("an unfinished run", unfinished, CONFIG, False, "holds an unfinished run; add --resume to go on"),
    (
        "another task",
        unfinished,
        CONFIG | {"task": "lamp3"},
        True,
        "with --task lamp2, not with --task lamp3",
    ),
    ("another limit", unfinished, CONFIG | {"limit": 5}, True, "no --limit, not with --limit 5; give the same options"),
    ("an option more", unfinished, CONFIG | {"k": 8}, True, "no --k, not with --k 8"),
    ("an option less", unfinished, {"command": "evaluate", "task": "lamp2"}, True, "--seed 0, not with no --seed"),
    ("nothing to resume", nothing, CONFIG, True, "holds no run to resume; leave out --resume"),
    ("nothing to resume in a foreign folder", foreign, CONFIG, True, "holds no run to resume"),
    ("a foreign folder", foreign, CONFIG, False, "is not empty and no run; give another --output"),
    ("a file", a_file, CONFIG, False, "cannot write to"),
    ("a broken config", a_broken_config, CONFIG, True, "cannot be read"),
]


def contents(path):
    return {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()} if path.is_dir() else None


@pytest.mark.parametrize(("why", "there", "config", "resume", "named"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_directory_is_left_alone(tmp_path, why, there, config, resume, named):
    path = tmp_path / "run"
    there(path)
    before = contents(path)
    with pytest.raises(RunError) as caught:
        Run(path, config, resume)
    message = str(caught.value)
    assert named in message
    assert "run" in message
    assert message.splitlines() == [message]
    assert contents(path) == before


@pytest.mark.parametrize(
    ("why", "below"),
    [("below a file", "file/run"), ("deep below a file", "file/runs/1"), ("a name that is too long", "x" * 300)],
)
def test_unwritable_directory_is_one_line(tmp_path, why, below):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write to .*; give another --output") as caught:
        Run(tmp_path / below, CONFIG)
    assert len(str(caught.value).splitlines()) == 1


def barely_begun(path):
    """What a run leaves that is killed before it has a config."""
    path.mkdir(parents=True)
    (path / ".lock").touch()
    (path / ".config.json.part").write_text('{"comm')


@pytest.mark.parametrize("there", [nothing, empty, barely_begun])
def test_new_run_writes_config(tmp_path, there):
    path = tmp_path / "runs" / "new"
    there(path)
    run = Run(path, CONFIG)
    assert json.loads((path / "config.json").read_text()) == CONFIG | {"id": run.id}
    assert sorted(file.name for file in path.iterdir()) == [".lock", "config.json"], "nothing half written is left"
    run.finish({"score": 1})
    assert json.loads((path / "report.json").read_text()) == {"score": 1}


def test_resumed_run_keeps_rows(tmp_path):
    config = {"directory": "a", "pair": (1, 2), "nothing": None}
    Run(tmp_path / "run", config).rows("r2p").append({"id": "1"})
    again = Run(tmp_path / "run", config, resume=True)
    assert list(again.rows("r2p")) == [{"id": "1"}], "a tuple is what JSON made of it"


def test_run_of_a_version_without_an_option_is_resumed_with_its_default(tmp_path):
    with Run(tmp_path, CONFIG) as _:
        pass
    with Run(tmp_path, {**CONFIG, "history": "list"}, resume=True) as _:
        pass
    with pytest.raises(RunError, match="--history list, not with --history turns"):
        Run(tmp_path, {**CONFIG, "history": "turns"}, resume=True)


def test_rows_file_names_are_portable(tmp_path):
    run = Run(tmp_path, CONFIG)
    run.rows("r2p:no_profile").append({"id": "1"})
    run.rows("r2p").append({"id": "2"})
    assert sorted(file.name for file in (tmp_path / "results").iterdir()) == ["r2p-no_profile.jsonl", "r2p.jsonl"]
    assert list(run.rows("r2p:no_profile")) == [{"id": "1"}]
    assert list(run.rows("cot")) == []


ODD = ["plain", "two\nlines", "\u2028and\x85others\x0b\x0c\x1c", "half \ud83d", '"}\n{"id": "forged"', "雨"]


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_any_answer_is_one_row(tmp_path, text):
    rows = Rows(tmp_path / "rows.jsonl")
    for name in ("1", "2"):
        rows.append({"id": name, "answer": text})
    assert list(rows) == [{"id": "1", "answer": text}, {"id": "2", "answer": text}]


@pytest.mark.parametrize("cut", range(1, 25))
def test_partial_row_is_ignored(tmp_path, cut):
    rows = Rows(tmp_path / "rows.jsonl")
    rows.append({"id": "1"})
    whole = len(rows.path.read_bytes())
    rows.append({"id": "2", "a": "雨雨"})
    written = rows.path.read_bytes()
    rows.path.write_bytes(written[: max(whole, len(written) - cut)])
    kept = [{"id": "1"}, {"id": "2", "a": "雨雨"}] if cut == 1 else [{"id": "1"}]
    assert list(rows) == kept, "only the line's end was lost"
    rows.append({"id": "3"})
    assert list(rows) == [*kept, {"id": "3"}]
    assert list(Rows(rows.path)) == list(rows)


def test_json_is_written_atomically(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"a": "雨"})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": "雨"}
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_saved_file_names_are_portable(tmp_path):
    run = Run(tmp_path, CONFIG)
    run.save("submissions/r2p:no_profile", {"output": "half \ud83d"})
    assert json.loads((tmp_path / "submissions" / "r2p-no_profile.json").read_text()) == {"output": "half \ud83d"}


def test_rows_reach_the_disk_once_a_second_and_at_the_end(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    rows = Rows(tmp_path / "rows.jsonl")
    for number in range(50):
        rows.append({"id": number})
    assert len(synced) <= 5, "once, where appending them takes less than a second"
    rows.sync()
    assert synced[0] > 0 and synced[-1] == rows.path.stat().st_size
