"""`finetune` as a user meets it: one line for every bad input, and, slowly, whole runs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import cli
from benchmarks.sentinels import packed_texts
from programs.data.personas import MAKERS
from programs.data.personas.world import draw
from tests.finetune.tiny import tiny_student

SMALL = "--users 12 --limit 4 --epochs 1 --batch 4 --steps 4 --every 2 --prompts 1 --generations 2 --tokens 96".split()


def run(*arguments):
    return CliRunner().invoke(cli.cli, ["finetune", *map(str, arguments)])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return tiny_student(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--student", "no/such/directory/here"], "no such directory"),
        (["--method", "ppo"], "'ppo' is not one of"),
        (["--grpo", "beta"], "KEY=VALUE"),
        (["--grpo", "bta=1"], "did you mean 'beta'"),
        (["--grpo", "max_completion_length=512"], "--grpo max_completion_length is --tokens here; give that"),
        (["--vllm", "offline"], "the modes are colocate, server"),
        (["--constrain-rollouts", "--grpo", "min_p=0.1"], "--grpo min_p cannot be used with --constrain-rollouts"),
        (["--task", "lamp2", "--task", "lamp2"], "give each --task once"),
        (["--task", "lamp2", "--task", "lamp3", "--program", "x.json"], "--program belongs to one task"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--program", "nowhere.json"], "nowhere.json does not exist"),
        (["--task", "lamp9"], "lamp9"),
        (["--data", "nowhere"], "nowhere"),
        (["--method", "grpo", "--ray"], "--ray collects traces, which --method grpo leaves out"),
    ],
)
def test_bad_input_writes_nothing(tiny, tmp_path, arguments, message):
    student = [] if "--student" in arguments else ["--student", tiny]
    result = run(*student, *arguments, "--output", tmp_path / "run")
    assert result.exit_code == 2, result.output
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_two_task_files_of_one_name_are_refused(tiny, tmp_path):
    files, data = [tmp_path / name for name in ("mine.yaml", "copy.yaml")], tmp_path / "rows.jsonl"
    for file in files:
        file.write_text("task: genres\nbase: lamp2\nlabels: [comedy, fantasy]\n")
    items = [{"id": "1", "description": "a wizard", "tag": "fantasy"}]
    rows = [{"id": str(n), "user": str(n), "description": "a witch", "tag": "fantasy"} for n in range(12)]
    data.write_text("".join(json.dumps({**row, "profile": items}) + "\n" for row in rows))
    tasks = [option for file in files for option in ("--task", file)]
    result = run("--student", tiny, *tasks, "--data", data, "--output", tmp_path / "run")
    assert result.exit_code == 2 and "two tasks are named 'genres'" in result.stderr, result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_vllm_without_gpu(tiny, tmp_path):
    result = run("--student", tiny, "--vllm", "colocate", "--output", tmp_path / "run")
    assert result.exit_code == 2 and "needs a GPU, and none is here" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"), [({"template": ""}, "has no chat template"), ({"context": 96}, "a context of 96 tokens")]
)
def test_unfit_student_costs_no_call(tmp_path, options, message):
    student = tiny_student(tmp_path / "unfit", **options)
    result = run("--student", student, "--output", tmp_path / "run")
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "run").exists()


def test_grpo_that_earns_nothing_says_so(tiny, tmp_path):
    few = ("--steps", 4, "--prompts", 1, "--generations", 2, "--tokens", 8, "--limit", 1, "--users", 4)
    result = run("--student", tiny, "--method", "grpo", *few, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert result.stderr.count("grpo: none of 6 answers got a reward above 0") == 1
    assert "give --constrain-rollouts" in result.stderr


@pytest.mark.slow
def test_whole_run_evaluates_alike(tmp_path):
    result = run(*SMALL, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    part = report["tasks"]["lamp2"]
    assert [*part["programs"]] == ["student", "student:sft", "student:sft+grpo", "teacher"]
    assert part["per_answer"]["student"]["calls"] == 1 and part["per_answer"]["teacher"]["calls"] == 5
    for name in (
        "model/config.json",
        "program.json",
        "README.md",
        "curves.png",
        "samples.jsonl",
        "traces/manifest.json",
    ):
        assert (tmp_path / "run" / name).exists(), name
    back = ["evaluate", "--program", tmp_path / "run", "--model", f"hf:{tmp_path / 'run' / 'model'}", "--limit", 4]
    evaluated = CliRunner().invoke(cli.cli, [*map(str, back), "--ablate", "--output", str(tmp_path / "back")])
    assert evaluated.exit_code == 0, evaluated.output
    again = json.loads((tmp_path / "back" / "report.json").read_text())["programs"]["r2p:template"]
    own = part["programs"][report["kept"]]
    assert (again["metrics"], again["compliance"], again["calls"]) == (own["metrics"], own["compliance"], own["calls"])
    assert "finished run" in run(*SMALL, "--output", tmp_path / "run").stderr


@pytest.mark.slow
def test_a_forgotten_user_is_in_no_file_of_a_run(tmp_path):
    """Traces of all rounds, what trainers copy of them, samples, results, transcripts and the page."""
    data, directory = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    texts: dict[str, list[str]] = {}
    for split, count in (("train", 10), ("dev", 3), ("test", 3)):
        with (data / f"{split}.jsonl").open("w") as file:
            for number, case in enumerate(draw(MAKERS["lamp2"], split, count)):
                row = {"id": f"{number}", "user": f"{split}-{number}", "description": case.question}
                texts[row["user"]] = [case.question, *(item["description"] for item in case.items)]
                file.write(json.dumps({**row, "tag": case.answer, "profile": case.items}) + "\n")
    options = "--method sft --rounds 2 --epochs 1 --batch 4 --tokens 96 --k 4".split()
    result = run(*options, "--data", data, "--output", directory)
    assert result.exit_code == 0, result.output

    def holders(user):
        found = set()
        for path in filter(Path.is_file, directory.rglob("*")):
            content = path.read_bytes() + packed_texts(path)
            if any(text.encode() in content for text in [*texts[user], f'"{user}"']):
                found.add(str(path.relative_to(directory)))
        return found

    trained = json.loads((directory / "traces-2/train.jsonl").read_text().splitlines()[0])["user"]
    before = {user: holders(user) for user in texts}
    assert any(".cache" in name for name in before[trained]) and "traces/lamp2.jsonl" in before[trained]
    assert {"report.html", "results/lamp2/teacher.jsonl"} <= before["test-0"] and "samples.jsonl" in before["dev-0"]
    for user in (trained, "dev-0", "test-0"):
        forgotten = CliRunner().invoke(cli.cli, ["data", "forget", user, "--in", str(directory)])
        assert forgotten.exit_code == 0 and holders(user) == set(), forgotten.output
    for user in texts.keys() - {trained, "dev-0", "test-0"}:
        assert {name for name in before[user] if ".cache" not in name} == holders(user)


@pytest.mark.slow
def test_constrained_rollouts_are_right_in_form(tmp_path):
    """From the first step, which a student without a grammar learns in dozens."""
    result = run(*SMALL, "--method", "grpo", "--constrain-rollouts", "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    log = json.loads((tmp_path / "run" / "grpo" / "state.json").read_text())["log_history"]
    steps = [entry for entry in log if "reward" in entry]
    assert len(steps) == 4
    for entry in steps:
        assert entry["rewards/structure/mean"] == entry["rewards/evidence/mean"] == 1
        assert 0 < entry["answers/left_out"] < 1
    assert json.loads((tmp_path / "run" / "config.json").read_text())["constrain_rollouts"] is True


@pytest.mark.slow
def test_killed_run_resumes_with_same_curve(tiny, tmp_path):
    def start(path, *more):
        command = [
            sys.executable,
            "cli.py",
            "finetune",
            *SMALL,
            "--method",
            "grpo",
            "--steps",
            "6",
            "--student",
            str(tiny),
        ]
        return subprocess.Popen([*command, "--output", str(path), *more], cwd=Path(cli.__file__).parent)

    def curve(path):
        log = json.loads((path / "grpo" / "state.json").read_text())["log_history"]
        return [(entry["step"], entry["reward"], entry["loss"]) for entry in log if "reward" in entry]

    assert start(tmp_path / "whole").wait() == 0
    killed = start(tmp_path / "killed")
    while not (tmp_path / "killed" / "grpo" / "checkpoints" / "checkpoint-2" / "trainer_state.json").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert start(tmp_path / "killed", "--resume").wait() == 0
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")


def test_missing_training_packages(monkeypatch, tmp_path):
    monkeypatch.setattr("finetune.config._REQUIRED", ("torch", "no_such_trainer"))
    result = run("--output", tmp_path / "run")
    assert result.exit_code == 2 and not (tmp_path / "run").exists()
    assert result.stderr.splitlines() == ["Error: training needs no_such_trainer: pip install '.[local,cli,train]'"]
