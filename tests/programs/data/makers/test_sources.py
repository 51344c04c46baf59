"""Repositories and mail boxes become files that the tasks read, whole or not at all."""

import json
import shutil
import stat
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from programs.data.dataset import DataConfig
from programs.data.lamp.check import FolderCheck
from programs.data.lamp.row_errors import LEAK
from programs.data.makers.making import MakerConfig
from programs.data.makers.sources import folder_of, from_git, rows_of
from programs.data.makers.splitting import SplitConfig
from programs.data.reading import read_examples
from programs.tasks import TASKS, commits
from r2p_dspy.errors import ConfigError, DataError
from tests.programs.data.makers.test_mbox import mail
from tests.repositories import commits_of, worded, write_repository

PEOPLE = ("ada", "bob", "eve", "dan", "kim")


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def silent(line):
    pass


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    each = [commits_of(who, 9) for who in PEOPLE]
    return write_repository(
        tmp_path_factory.mktemp("git") / "rain", [commit for turn in zip(*each, strict=True) for commit in turn]
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("R2P_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("task", ["commits", "lamp6"])
@pytest.mark.parametrize("split", ["time", "user"])
def test_files_are_read_by_the_tasks_of_their_shape(repository, tmp_path, task, split):
    summary = from_git([str(repository)], MakerConfig(SplitConfig(by=split)), tmp_path / "new" / "data", silent)
    data = read_examples(TASKS[task], DataConfig(str(tmp_path / "new" / "data"), trains=True))
    assert (summary.authors, summary.train, summary.dev) == ((5, 15, 5) if split == "time" else (5, 9, 2))
    assert len(data.test) == summary.dev and len(data.train) + len(data.dev) == summary.train
    assert data.shared_users == (5 if split == "time" else 0)
    for example in data.test:
        titles = [item.fields["title"] for item in example.profile]
        assert len(titles) == 8 and example.subject == worded(8, example.subject.split(":")[0])[0] not in titles
        assert {title.split(":")[0] for title in titles} == {example.subject.split(":")[0]}, "the author's own"
        dates = [item.date for item in example.profile]
        assert dates == sorted(dates)


def test_files_pass_the_check_and_hold_no_addresses(repository, tmp_path):
    from_git([str(repository)], MakerConfig(), tmp_path / "data", silent)
    check = FolderCheck(tmp_path / "data")
    assert not [error for error in check if not error.note or error.kind == LEAK]
    assert check.task.name == "lamp6", "what the files name"
    for name, text in contents(tmp_path / "data").items():
        assert "@" not in text and "Ada" not in text, name
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()} == {0o600}


def test_a_salt_makes_a_run_repeatable(repository, tmp_path):
    def made(name, salt):
        from_git([str(repository)], MakerConfig(salt=salt), tmp_path / name, silent)
        return contents(tmp_path / name)

    assert made("a", "x") == made("b", "x")
    assert len({made(name, salt)["dev_outputs.json"] for name, salt in [("c", "y"), ("d", None), ("e", None)]}) == 3
    assert "x" not in json.loads(made("f", "a long secret")["source.json"]).values()


def test_limit_and_since(repository, tmp_path):
    assert from_git([str(repository)], MakerConfig(limit=3), tmp_path / "a", silent).authors == 3
    config = MakerConfig(SplitConfig(min_history=1), since=date(2020, 2, 1))
    summary = from_git([str(repository)], config, tmp_path / "b", silent)
    assert summary.left_out["before 2020-02-01"] == 30
    dates = [
        item["date"] for row in json.loads(contents(tmp_path / "b")["dev_questions.json"]) for item in row["profile"]
    ]
    assert min(dates) >= "2020-02-01"


def test_a_repository_that_is_named_twice_counts_once(repository, tmp_path):
    one = from_git([str(repository)], MakerConfig(salt="x"), tmp_path / "a", silent)
    two = from_git([str(repository), str(repository)], MakerConfig(salt="x"), tmp_path / "b", silent)
    assert two.left_out["duplicates"] == 45 and (two.train, two.dev) == (one.train, one.dev)


def test_one_author_alone_and_short_histories_are_refused_and_nothing_is_written(tmp_path):
    alone = write_repository(tmp_path / "alone", commits_of("ada", 9))
    short = write_repository(tmp_path / "short", [*commits_of("ada", 2), *commits_of("bob", 2)])
    for path, said in ((alone, "only one author has more than 4"), (short, r"no author has .* \(2 have fewer\)")):
        with pytest.raises(DataError, match=f"{said}.*--min-history"):
            from_git([str(path)], MakerConfig(), tmp_path / "data", silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "short"]


@pytest.mark.parametrize("content", ["file", "folder"])
def test_nothing_is_overwritten(repository, tmp_path, content):
    target = tmp_path / "data"
    if content == "folder":
        target.mkdir()
        (target / "mine").write_text("x")
    else:
        target.write_text("x")
    with pytest.raises(DataError, match="is there already; give another --output"):
        from_git([str(repository)], MakerConfig(), target, silent)


@pytest.mark.parametrize("arguments", [{"limit": 1}, {"salt": ""}])
def test_settings_that_cannot_be_meant(arguments):
    with pytest.raises(ConfigError, match="--limit is|--salt is empty"):
        MakerConfig(**arguments)


def test_data_on_the_fly_are_made_once_for_a_head_and_earlier_ones_go(tmp_path, cache):
    repository = write_repository(tmp_path / "r", [*commits_of("ada", 6), *commits_of("bob", 6)])
    said = []
    first = folder_of(commits.TASK, f"git:{repository}", said.append)
    assert first.parent.parent == cache and len(said) == 1
    before = contents(first)
    assert folder_of(commits.TASK, f"git:{repository}", said.append) == first and len(said) == 1
    shutil.rmtree(first)
    assert contents(folder_of(commits.TASK, f"git:{repository}")) == before, "the salt is the same"
    write_repository(repository, [*commits_of("ada", 7), *commits_of("bob", 7)])
    second = folder_of(commits.TASK, f"git:{repository}")
    assert second != first and not first.exists() and contents(second) != before
    assert rows_of(commits.TASK, f"git:{repository}") == second / "predict.jsonl"


def test_a_repository_is_no_data_of_other_tasks(repository):
    with pytest.raises(DataError, match="commits, which are no data of lamp2; give --task commits"):
        read_examples(TASKS["lamp2"], DataConfig(f"git:{repository}"))
    with pytest.raises(DataError, match="give --data git:REPOSITORY"):
        read_examples(commits.TASK, DataConfig())


def test_a_failed_repository_leaves_no_data_in_the_cache(tmp_path, cache):
    alone = write_repository(tmp_path / "alone", commits_of("ada", 9))
    for _ in range(2):
        with pytest.raises(DataError, match="only one author"):
            folder_of(commits.TASK, f"git:{alone}")
    assert [path for path in cache.rglob("*") if not path.name.endswith(".lock") and path.is_file()] == []


def test_commands_say_what_was_made_and_what_was_left_out(repository, tmp_path):
    result = run("data", "from-git", repository, "--output", tmp_path / "data")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{tmp_path / 'data'}: 15 questions to train on and 5 to report, of 5 people, from 45 commits",
        "left out: none",
        "people are hashed with a random salt that is not kept; --salt gives the same hashes again",
        f"next: python cli.py evaluate --task commits --data {tmp_path / 'data'}",
    ]
    again = run("data", "from-git", repository, "--output", tmp_path / "data")
    assert again.exit_code == 2 and again.stderr.count("\n") == 1
    shown = run("data", "show", "commits", "--data", f"git:{repository}")
    assert shown.exit_code == 0 and "history: 8 items, oldest first" in shown.stdout
    checked = run("data", "check", f"git:{repository}")
    assert checked.exit_code == 0 and "flaws: none" in checked.stdout


def test_mails_become_the_e_mail_task(tmp_path):
    mails = []
    for number in range(6):
        for who in PEOPLE[:2]:
            subject, body = worded(number, who)
            date = f"Thu, {number + 1} May 2020 10:12:00 +0000"
            mails.append(mail(subject, body, sender=f"{who} <{who}@rain.example>", date=date))
    mails.append(
        mail("Wet walls", "Nässe an allen Wänden des Hauses, seit gestern.".encode("latin-1"), sender="x@y.example")
    )
    (tmp_path / "box").write_bytes(b"".join(mails))
    result = run("data", "from-mbox", tmp_path / "box", "--output", tmp_path / "data", "--salt", "x")
    assert result.exit_code == 0, result.stderr
    assert "2 to report, of 2 people, from 13 e-mails" in result.stdout
    assert "broken encodings: 1 of the e-mails; what cannot be read is replaced" in result.stdout
    [first, second] = read_examples(TASKS["lamp6"], DataConfig(str(tmp_path / "data"))).test
    assert {first.subject, second.subject} == {worded(5, who)[0] for who in PEOPLE[:2]}
    assert [item.date for item in first.profile] == [f"2020-05-0{day}" for day in range(1, 6)]


def test_a_killed_command_leaves_nothing_half_written(repository, tmp_path):
    """The process dies while it writes; the next one begins anew."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from programs.data.makers import making, sources\n"
        "making.row = lambda *given: os._exit(9)\n"
        "sources.from_git([sys.argv[1]], making.MakerConfig(), Path(sys.argv[2]), print)\n"
    )
    target = tmp_path / "data"
    killed = subprocess.run([sys.executable, "-c", code, str(repository), str(target)], cwd=Path(cli.__file__).parent)
    assert killed.returncode == 9 and not target.exists()
    from_git([str(repository)], MakerConfig(), target, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_predict_and_evaluate_take_a_repository(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = f"git:{repository}"
    evaluated = run(
        "evaluate", "--task", "commits", "--data", source, "--limit", 2, "--output", "run", "--answer-tokens", 20
    )
    assert evaluated.exit_code == 0, evaluated.output
    report = json.loads(Path("run/report.json").read_text())
    assert (report["task"], report["data"], report["examples"]) == ("commits", source, 2)
    options = ["--task", "commits", "--answer-tokens", 20, "--constrain", "off"]
    run("predict", *options, "--input", source, "--output", "answers.jsonl")
    rows = [*Path("answers.jsonl").read_text().splitlines()]
    failed = Path("answers.failed.jsonl")
    assert len(rows) + (len(failed.read_text().splitlines()) if failed.exists() else 0) == 5
