"""Getting LaMP's files: where they are, what is taken for them, and what is said when there is no way to them."""

import json

import pytest

from programs.data.lamp.official import get, official_urls
from programs.tasks import TASKS, lamp2, lamp3, lamp4
from r2p_dspy.errors import DataError
from tests.lamp import load, question, write
from tests.web import serve

HOST = "https://ciir.cs.umass.edu/downloads/LaMP"


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    monkeypatch.setattr("programs.data.lamp.download._WAITS", (0.0,))
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.parametrize(
    ("task", "by", "folder"),
    [
        ("lamp1", "user", "LaMP_1"),
        ("lamp1", "time", "time/LaMP_1"),
        ("lamp2", "user", "LaMP_2/new"),
        ("lamp2", "time", "time/LaMP_2/new"),
        ("lamp7", "time", "time/LaMP_7"),
    ],
)
def test_addresses(task, by, folder):
    kinds = [(split, kind) for split in ("train", "dev") for kind in ("questions", "outputs")]
    expected = {f"{split}_{kind}.json": f"{HOST}/{folder}/{split}/{split}_{kind}.json" for split, kind in kinds}
    assert official_urls(TASKS[task], by) == expected
    assert official_urls(TASKS[task], by, test=True) == expected | {
        "test_questions.json": f"{HOST}/{folder}/test/test_questions.json"
    }


def test_task_6_needs_a_licence(tmp_path):
    with pytest.raises(DataError, match=r"licence; https://\S+ says how"):
        get(TASKS["lamp6"], "user", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.fixture
def site(tmp_path):
    """LaMP's site with task 4 by time, as (files by path, the folder that they come from)."""
    source = tmp_path / "source"
    source.mkdir()
    for split in ("train", "dev", "test"):
        write(source, lamp4.TASK, [question(lamp4.TASK, split)], {split: "Rain"}, split)
    names = [path.name for path in source.iterdir()]
    return {f"/time/LaMP_4/{name.split('_')[0]}/{name}": (source / name).read_bytes() for name in names}


def test_download_once_and_load(tmp_path, site):
    out, reports = tmp_path / "deep" / "out", []
    with serve(site, drops=[20]) as (address, web):
        names = get(lamp4.TASK, "time", out, base=address, progress=lambda *what: reports.append(what))
        assert names == ["train_questions.json", "train_outputs.json", "dev_questions.json", "dev_outputs.json"]
        (out / "dev_outputs.json").unlink()
        requests = len(web.asked)
        assert get(lamp4.TASK, "time", out, base=address, test=True) == ["dev_outputs.json", "test_questions.json"]
        assert len(web.asked) == requests + 2
    assert load(lamp4.TASK, out, "dev")[0].headline == "Rain"
    assert sorted(path.name for path in out.iterdir()) == sorted({*names, "test_questions.json", "source.json"})
    assert json.loads((out / "source.json").read_text()) == {"task": "LaMP_4", "split": "time", "from": address}
    sizes = {name: (done, total) for name, done, total in reports}
    assert all(sizes[name] == ((out / name).stat().st_size,) * 2 for name in names)


def test_splits_are_not_mixed(tmp_path, site):
    with serve(site) as (address, _):
        get(lamp4.TASK, "time", tmp_path / "out", base=address)
        (tmp_path / "out" / "dev_outputs.json").unlink()
        with pytest.raises(DataError, match="is for other files .*split time"):
            get(lamp4.TASK, "user", tmp_path / "out", base=address)
        (tmp_path / "out" / "source.json").write_text("[")
        with pytest.raises(DataError, match=r"source.json does not describe"):
            get(lamp4.TASK, "time", tmp_path / "out", base=address)


@pytest.mark.parametrize(
    ("why", "name", "body", "expected"),
    [
        ("cut short, and the server knows of no more", "dev_questions", b'[{"id": "1"', "not valid JSON"),
        ("golds of another task", "train_outputs", b'{"task": "LaMP_5", "golds": [{}]}', "of 'LaMP_5', not of LaMP_4"),
        (
            "questions of another",
            "train_questions",
            json.dumps([question(lamp3.TASK)]).encode(),
            "no question of LaMP_4",
        ),
        ("no questions", "train_questions", b"{}", "no question of LaMP_4"),
        ("a page in their place", "dev_questions", b"<html>", "a web page"),
    ],
)
def test_bad_files_are_not_kept(tmp_path, site, why, name, body, expected):
    path = next(path for path in site if path.endswith(f"{name}.json"))
    with serve(site | {path: body}) as (address, _):
        with pytest.raises(DataError) as caught:
            get(lamp4.TASK, "time", tmp_path / "out", base=address)
    message = str(caught.value)
    assert expected in message and f"{address}{path}" in message and message.splitlines() == [message]
    assert not [left for left in (tmp_path / "out").iterdir() if left.name.startswith(name)]
    with serve(site) as (address, _):
        assert f"{name}.json" in get(lamp4.TASK, "time", tmp_path / "out", base=address)


@pytest.mark.parametrize("present", [[], ["dev_outputs.json", "train_questions.json"]], ids=["at all", "any more"])
def test_no_network_names_missing_files(tmp_path, site, present):
    out = tmp_path / "out"
    with serve(site) as (address, _):
        pass
    out.mkdir()
    for name in present:
        (out / name).write_text("put there by hand")
    with pytest.raises(DataError) as caught:
        get(lamp4.TASK, "time", out, base=address)
    message = str(caught.value)
    _, _, named = message.partition(f"download by other means, and put into {out}: ")
    assert named.split() == [
        url for name, url in official_urls(lamp4.TASK, "time", base=address).items() if name not in present
    ]
    assert "cannot be reached" in message and message.splitlines() == [message]
    assert sorted(path.name for path in out.iterdir()) == sorted([*present, "source.json"])


def test_unwritable_directory(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot write to .*file/out"):
        get(lamp2.TASK, "user", tmp_path / "file" / "out")
