"""Compare GRPO on plain, constrained and corrected rollouts: `python -m benchmarks.rollouts` (an hour on one core).

On a persona task, from the student that ships with the project: for each seed `python cli.py finetune --method grpo`
with neither, with `--constrain-rollouts` and with `--correct-rollouts`. Each model answers for unseen users twice,
freely and under the grammar. With `--output` a stopped benchmark goes on where it stopped, and finished trainings are
not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import dspy
import torch

from finetune.config import STUDENT
from finetune.task_setup import student_program
from programs.data.dataset import personas
from programs.evaluate.report import metrics, scored
from programs.evaluate.runner import measure
from programs.runs.directory import Rows
from programs.tasks import TASKS
from programs.tasks.program import r2p
from programs.tasks.retrievers import default_retriever
from r2p_dspy import connect

ARMS = {"plain": "--no-constrain-rollouts", "constrained": "--constrain-rollouts", "corrected": "--correct-rollouts"}
COLUMNS = ("accuracy", "compliance", "evidence", "accuracy held", "evidence held")


def train(directory: Path, arm: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run the command, or read what an earlier run has left."""
    if not (directory / "report.json").exists():
        command = [sys.executable, "cli.py", "finetune", "--method", "grpo", ARMS[arm], "--output", str(directory)]
        for name in ("task", "steps", "limit", "every"):
            command += [f"--{name}", str(getattr(options, name))]
        command += ["--seed", str(seed), "--candidates", "1"]
        command += ["--resume"] if (directory / "config.json").exists() else []
        threads = {} if options.threads is None else {"OMP_NUM_THREADS": str(options.threads)}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **threads})
    return json.loads((directory / "report.json").read_text())


def answers(model: str, rows: Path, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """How good a model's first answers for unseen users are: freely, and `held` to the grammar."""
    task = TASKS[options.task]
    examples = personas(task, seed=seed, limit=options.limit).test
    values: dict[str, float] = {}
    for constrain, suffix in (("off", ""), ("on", " held")):
        program = student_program(task, r2p(task, default_retriever(task)), "fields")
        program.constrain = constrain
        lm = connect(model, temperature=0.0, seed=seed, cache=False, max_tokens=128)
        with dspy.context(lm=lm):
            file = Rows(rows.with_name(f"{rows.name}-{constrain}.jsonl"))
            done = scored(measure(program, examples, task, file, 16, lambda: None))
        values[f"accuracy{suffix}"] = metrics(task, done)["accuracy"]["value"]
        values[f"compliance{suffix}"] = mean(bool(row["compliant"]) for row in done)
        values[f"evidence{suffix}"] = mean(bool(row["evidence"]) for row in done)
    return values


def curves(directory: Path) -> dict[str, float]:
    """What the training's log tells."""
    log = json.loads((directory / "grpo" / "state.json").read_text())["log_history"]
    steps = [entry for entry in log if "reward" in entry]
    dev = [entry["eval_score"] for entry in log if "eval_score" in entry]
    tenth = max(1, len(steps) // 10)
    return {
        "reward first": mean(entry["reward"] for entry in steps[:tenth]),
        "reward last": mean(entry["reward"] for entry in steps[-tenth:]),
        "dev first": dev[0],
        "dev best": max(dev),
        "no spread": mean(entry["frac_reward_zero_std"] for entry in steps),
        "left out": mean(entry.get("answers/left_out", 0) for entry in steps),
        "cut off": mean(entry["answers/cut_off"] for entry in steps),
        "s a step": mean(entry["step_time"] for entry in steps),
    }


def show(name: str, results: Sequence[dict[str, float]]) -> None:
    """A line for each seed's results and, of several seeds, their mean."""
    lines = [*enumerate(results), *([("mean", None)] if len(results) > 1 else [])]
    for seed, values in lines:
        values = values or {key: mean(result[key] for result in results) for key in results[0]}
        print(f"{name:12} {seed!s:>4}  " + "  ".join(f"{key} {value:.3f}" for key, value in values.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="where the runs go; default: a directory that is removed afterwards")
    parser.add_argument("--task", default="lamp2", choices=["lamp2", "lamp3"])
    parser.add_argument("--steps", type=int, default=40, help="of each training (40)")
    parser.add_argument("--every", type=int, default=20, help="steps between evaluations on dev (20)")
    parser.add_argument("--seeds", type=int, default=3, help="how many (3)")
    parser.add_argument("--limit", type=int, default=60, help="users that are reported on (60)")
    parser.add_argument("--threads", type=int, help="cores for torch; default: its own choice")
    options = parser.parse_args()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.output or temporary)
        before = [answers(f"hf:{STUDENT}", root / f"before-{s}", s, options) for s in range(options.seeds)]
        show("before", [{key: values[key] for key in COLUMNS} for values in before])
        after: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
        for seed in range(options.seeds):
            for arm, results in after.items():
                directory = root / f"{arm}-{seed}"
                train(directory, arm, seed, options)
                # The last weights: the run's own `model` is the best on dev, which may be an earlier one.
                last = directory / "grpo" / "checkpoints" / f"checkpoint-{options.steps}"
                values = answers(f"hf:{last}", directory / "answers", seed, options)
                results.append({**curves(directory), **{key: values[key] for key in COLUMNS}})
                print(f"{arm}, seed {seed}: done", flush=True)
        for arm, results in after.items():
            show(arm, results)


if __name__ == "__main__":
    main()
