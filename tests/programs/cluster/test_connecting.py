"""What is wrong with a cluster, its nodes or the folder is one line, before any row is asked."""

import re
import socket
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from programs.cluster import connecting
from programs.cluster import run as cluster_run
from programs.cluster.connecting import look_at_node, versions
from programs.cluster.run import run_on_ray
from programs.cluster.worker import look_at_files
from programs.runs.reporter import Reporter
from r2p_dspy.errors import ConfigError, RunError
from tests.test_cli import run


@pytest.fixture
def closed():
    """The address of a port at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.mark.parametrize(
    "options, says",
    [
        (
            ["--ray", "{closed}"],
            "--ray {closed}: nothing answers there (Connection refused); start Ray with `ray start`",
        ),
        (["--ray", "ray://host:10001"], "--ray ray://host:10001: write HOST:PORT of the cluster's head, and run the"),
        (["--ray", "host"], "--ray host: write HOST:PORT"),
        (["--ray", "--calls", "calls"], "--calls is a file on one machine, which workers cannot share"),
        (["--ray", "--partition-rows", "0"], "--partition-rows"),
        (["--ray", "--input", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    ],
)
def test_options_that_cannot_be_used(rows, tmp_path, closed, options, says):
    options = [option.format(closed=closed) for option in options]
    result = run("predict", "--input", rows, "--output", tmp_path / "out", *options)
    assert result.exit_code == 2 and says.format(closed=closed) in result.stderr, result.output
    assert len(result.stderr.strip().splitlines()) <= 4 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["evaluate", "finetune"])
def test_no_run_is_begun_where_nothing_answers(command, tmp_path, closed):
    result = run(command, "--output", tmp_path / "out", "--ray", closed)
    assert result.exit_code == 2 and f"--ray {closed}: nothing answers there" in result.stderr, result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["predict", "evaluate", "finetune"])
def test_ray_is_missing(command, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(connecting, "find_spec", lambda name: None)
    source = ["--input", rows] if command == "predict" else []
    result = run(command, *source, "--output", tmp_path / "out", "--ray")
    assert result.exit_code == 2 and "--ray needs ray, pyarrow: pip install '.[ray]'" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text, says",
    [
        (
            "Version mismatch: The cluster was started with:\n    Ray: 2.59.0\n    Python: 3.11.9\nThis process on "
            "node 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.12.1\n",
            "the cluster has Ray 2.59.0, Python 3.11.9, and this process Ray 2.60.0, Python 3.12.1; install the same",
        ),
        (
            "ray::look_at_node()\nThe remote function failed to import\nModuleNotFoundError: No module named 'dspy'",
            "it lacks the package dspy; install what the driver has, or share its checkout",
        ),
    ],
)
def test_what_ray_says_at_length_becomes_one_line(text, says):
    assert connecting._reason(RuntimeError(text)) == says


@pytest.fixture
def began(config):
    """began(**changes): the config of a run whose directory is there."""

    def make(**changes):
        made = config(**changes)
        made.target.mkdir()
        (made.target / "config.json").write_text("{}")
        return made

    return make


def seen_by_node(config, source):
    return look_at_node(config.model, partial(look_at_files, config, source))


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"model": "hf:/nowhere/at/all", "api_base": None}, "'hf:/nowhere/at/all'.*no such directory"),
        ({"store": "sqlite:////nowhere/s.sqlite"}, "/nowhere/s.sqlite"),
        ({"store": "postgresql+psycopg://u:secret@127.0.0.1:1/x"}, "cannot be"),
    ],
)
def test_a_node_lacks_something(began, rows, changes, says):
    seen = seen_by_node(began(**changes), rows)
    assert_line(seen["error"], says)


def test_a_node_lacks_the_program(began, rows):
    made = began()
    seen = seen_by_node(replace(made, program=replace(made.program, artifact="/nowhere/program.json")), rows)
    assert_line(seen["error"], "/nowhere/program.json does not exist")


def assert_line(line, says):
    assert re.search(says, line) and "\n" not in line and "secret" not in line, line


def test_a_node_does_not_see_the_files(config, began, rows):
    seen = seen_by_node(config(), rows)
    assert_line(seen["error"], "cannot write into .*; put it where all nodes find it under the same path")
    seen = seen_by_node(began(), Path("nowhere.jsonl"))
    assert_line(seen["error"], "cannot read nowhere.jsonl; put it where all nodes find it")


def test_a_node_that_has_everything(began, rows):
    seen = seen_by_node(began(model="pocket", api_base=None), rows)
    assert seen["error"] == "" and len(seen["weights"]) == 16 and seen["versions"] == versions()


def test_a_node_of_another_version():
    with pytest.raises(ConfigError, match="node 10.0.0.7 has dspy 3.0, and this machine .*; install the same"):
        connecting._check_versions("10.0.0.7", {**versions(), "dspy": "3.0"})


def test_a_folder_that_is_not_this_runs(config, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_run, "connected", lambda address: nullcontext())
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(RunError, match="another process works in .*out"):
        run_on_ray(config(), False, Reporter())
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="out is not empty and no run; give another --output"):
        run_on_ray(config(), False, Reporter())
    with pytest.raises(RunError, match="holds no run to resume; leave out --resume"):
        run_on_ray(replace(config(), target=tmp_path / "other"), True, Reporter())
