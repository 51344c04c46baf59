"""`python cli.py serve` as a process: it says where it listens, and SIGTERM lets it finish."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

import cli
from programs.serve.config import ServeConfig
from r2p_dspy import artifact_of, write_artifact
from r2p_dspy.errors import ConfigError
from tests.programs.serve.running import ask

ROOT = Path(__file__).parents[3]


def test_it_serves_until_it_is_told_to_stop(tmp_path):
    options = ["--task", "lamp2", "--port", "0", "--store", f"sqlite:///{tmp_path}/h.sqlite"]
    command = [sys.executable, "cli.py", "serve", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert "from this machine alone, since there are no tokens" in line
        with httpx.Client(base_url=re.search(r"http://\S+", line)[0], timeout=30) as client:
            assert ask(client).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    assert not [*tmp_path.glob("*-wal")]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "without tokens, anybody who can reach 0.0.0.0 may ask"),
        (["--program", "missing.json"], "missing.json"),
        (["--task", "lamp9"], "unknown task 'lamp9'"),
        (["--tokens", "missing"], "missing cannot be read"),
        (["--store", "nowhere"], "'nowhere' is no address of a store"),
        (["--model", "gguf:none.gguf"], "none.gguf"),
    ],
)
def test_what_stops_it_at_once(options, words):
    result = CliRunner().invoke(cli.cli, ["serve", "--port", "0", *options])
    assert result.exit_code == 2 and words in result.output and "Traceback" not in result.output


class TestPrograms:
    def config(self, **options):
        return ServeConfig.of(**options)

    def test_a_program_has_the_name_of_its_task_or_its_own(self):
        file = str(ROOT / "programs/compiled/lamp2.json")
        named = self.config(programs=[file, f"tags={file}"], tasks=["commits"]).programs
        assert {name: config.task for name, config in named.items()} == {
            "lamp2": "lamp2",
            "tags": "lamp2",
            "commits": "commits",
        }
        with pytest.raises(ConfigError, match="two programs are named 'lamp2'; write --program NAME="):
            self.config(programs=[file, file])

    def test_a_program_of_an_unknown_task(self, tmp_path):
        from programs import load

        write_artifact(artifact_of(load("lamp2"), task="mine"), tmp_path / "program.json")
        with pytest.raises(ConfigError, match="is for the task 'mine', which is not here; give its file with --task"):
            self.config(programs=[str(tmp_path)])

    def test_options_win_over_the_file(self):
        assert self.config(tasks=["lamp2"], k=2).programs["lamp2"].r2p.k == 2
