"""`finetune` in several processes of torchrun, as `accelerate launch` starts them: one training, shared."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

import cli
from finetune.config import STUDENT
from finetune.student import Student

pytestmark = pytest.mark.slow
TRAINING = "--task lamp2 --method sft --users 24 --epochs 2 --every 3 --limit 2 --tokens 200"


def launch(processes, output, *options):
    """Start a training of eight rows a step; gloo connects the processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += ["cli.py", "finetune", *TRAINING.split(), "--output", str(output), *(options or ("--batch", "8"))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"}
    return subprocess.Popen(command, cwd=Path(cli.__file__).parent, env=environment, stdout=-1, stderr=-2, text=True)


def finished(running):
    said, _ = running.communicate(timeout=600)
    assert running.returncode == 0, said
    return said


def losses(output):
    log = json.loads((output / "sft" / "state.json").read_text())["log_history"]
    return [entry["loss"] for entry in log if "loss" in entry]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    output = tmp_path_factory.mktemp("alone") / "run"
    finished(launch(1, output))
    return output


def test_two_processes_train_as_one_does(alone, tmp_path):
    said = finished(launch(2, tmp_path / "run"))
    assert losses(tmp_path / "run") == pytest.approx(losses(alone), abs=1e-3)
    assert said.count("sft: 6 steps") == 1, "only the main process reports"
    traces = [path / "traces" / "train.jsonl" for path in (alone, tmp_path / "run")]
    assert traces[0].read_text() == traces[1].read_text(), "the same examples"


def test_a_training_is_resumed_by_another_number_of_processes(alone, tmp_path):
    output = tmp_path / "run"
    running = launch(2, output)
    saved = output / "sft" / "checkpoints" / "checkpoint-3" / "trainer_state.json"
    while not saved.exists():
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.05)
    for process in (*psutil.Process(running.pid).children(recursive=True), running):
        process.kill()
    running.communicate()
    finished(launch(1, output, "--batch", "8", "--resume"))
    assert losses(output) == pytest.approx(losses(alone), abs=1e-3)


def test_rows_that_cannot_be_shared_are_one_line(tmp_path):
    running = launch(2, tmp_path / "run", "--batch", "3")
    said, _ = running.communicate(timeout=600)
    assert running.returncode != 0
    assert "Error: 3 rows per step cannot be shared by 2 processes; change --batch" in said


def test_trls_own_command_trains_on_the_traces(alone, tmp_path):
    """The file of docs/finetuning.md for students that are sharded, here on a CPU and on the student that ships."""
    text = (Path(cli.__file__).parent / "docs" / "finetuning.md").read_text()
    config = yaml.safe_load(text.split("```yaml\n# sft.yaml\n")[1].split("```")[0])
    config["datasets"][0]["data_files"] = str(alone / "traces" / "train.jsonl")
    config |= {"model_name_or_path": str(STUDENT), "output_dir": str(tmp_path / "model"), "use_cpu": True}
    config |= {"bf16": False, "max_steps": 2, "max_length": 1024}
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "trl.cli.main", "sft", "--config", str(tmp_path / "sft.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Student.load(str(tmp_path / "model")).size == Student.load(str(STUDENT)).size
