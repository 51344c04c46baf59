"""Measure what fine-tuning reaches and takes: `python -m benchmarks.finetune` (forty minutes).

On persona tasks 2 and 3, from the student that ships with the project: SFT and GRPO as `python cli.py finetune` runs
them, one task at a time; then GRPO alone with three seeds; then the rewards of 10,000 completions on one core.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from finetune.rewards import Rewards
from finetune.task_setup import completion_text, student_program
from programs.data.dataset import personas
from programs.tasks import TASKS
from programs.tasks.program import r2p
from programs.tasks.retrievers import default_retriever
from r2p_dspy import Evidence, Inputs, Outcome, Preference, Verification

_SCORED = 10_000


def goal(met: bool, text: str) -> None:
    print(f"{'met   ' if met else 'MISSED'} {text}", flush=True)


def scoring() -> None:
    """Time the rewards of completions, eight per row, a third of them cut off."""
    task = TASKS["lamp2"]
    program = student_program(task, r2p(task, default_retriever(task)), "fields")
    rng, texts, inputs, golds = random.Random(0), [], [], []
    for example in personas(task, seed=0, limit=_SCORED // 8).test:
        shown = program.retriever(task.query_text(example), example[task.profile]).local()
        item = shown[0]
        stages = {
            "requirements": "the setting and the figure",
            "evidence": [Evidence(item=item.id, quote=" ".join(item.text.split()[:3]))],
            "preferences": [Preference(statement="it decides", items=[item.id], label=item.label)],
            "draft": item.label,
            "verification": Verification(approved=True, reason="item 1 agrees"),
        }
        fields = {**example.inputs(), task.profile: shown}
        given = Inputs(fields=fields, items=shown, labels=task.labels).to_json()
        for number in range(8):
            numbered = {**stages, "requirements": f"the setting and the figure {number}"}
            text = completion_text(program, Outcome(fields={task.answer: item.label}, stages=numbered))
            texts.append(text if rng.random() < 0.67 else text[: rng.randrange(len(text))])
            inputs.append(given)
            golds.append(json.dumps(example[task.answer]))
    functions = Rewards({task.name: (task, program)}).functions(task.name)
    started = time.process_time()
    for start in range(0, _SCORED, 32):  # as in a step: each function after the other on the same answers
        some = slice(start, start + 32)
        columns: dict[str, Any] = {"task": [task.name] * 32, "inputs": inputs[some], "gold": golds[some]}
        for function in functions:
            function(completions=texts[some], **columns)
    seconds = time.process_time() - started
    goal(seconds < 10, f"{_SCORED} completions scored in {seconds:.1f} s of one core (10)")


def run(directory: Path, *arguments: str) -> dict[str, Any]:
    """Run the command and read its report."""
    command = [sys.executable, "cli.py", "finetune", *arguments, "--output", str(directory)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return json.loads((directory / "report.json").read_text())


def both(directory: Path, task: str, more: list[str]) -> None:
    """SFT and GRPO on one task."""
    done = run(directory / task, "--task", task, *more)
    part, kept = done["tasks"][task], done["kept"]
    gain, entry = part["to_student"][kept]["accuracy"], part["programs"][kept]
    low, high = (100 * gain[end] for end in ("low", "high"))
    text = (
        f"{task}: accuracy {100 * gain['value']:+.1f} points [{low:+.1f}, {high:+.1f}] against the student before (+20)"
    )
    goal(gain["value"] >= 0.2 and gain["low"] > 0, text)
    goal(entry["compliance"] >= 0.99, f"{task}: compliance {entry['compliance']:.1%} without assertions (99 %)")
    shares = part["to_teacher"][kept]
    goal(shares["score"] >= 0.97, f"{task}: {shares['score']:.1%} of the teacher's score (97 %)")
    goal(shares["completion_tokens"] <= 0.25, f"{task}: {shares['completion_tokens']:.1%} of its tokens (25 %)")
    goal(done["seconds"] < 1800, f"{task}: {done['seconds'] / 60:.1f} minutes in all (30)")
    goal(done["peak_memory_gb"] < 4, f"{task}: {done['peak_memory_gb']} GB of memory at most (4)")
    for training in done["trainings"].values():
        if seconds := training["seconds"]:
            part = seconds["rewards"] / seconds["all"]
            goal(part < 0.05, f"{task}: rewards take {part:.2%} of GRPO (5 %)")


def alone(directory: Path, seed: int, more: list[str]) -> None:
    """GRPO without SFT."""
    done = run(directory / f"grpo-{seed}", "--method", "grpo", "--seed", str(seed), *more)
    (training,) = done["trainings"].values()
    first, last = training["reward"]["first"], training["reward"]["last"]
    text = f"GRPO alone, seed {seed}: reward {first:.3f} to {last:.3f} in {training['steps']} steps, "
    goal(last > first, text + f"{training['groups_without_spread']:.0%} of the groups without spread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="where the runs go; default: a directory that is removed afterwards")
    parser.add_argument("--only", choices=["scoring", "both", "alone"], help="run this part alone")
    known, more = parser.parse_known_args()  # all other options go to `finetune`
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(known.output or temporary)
        if known.only in (None, "scoring"):
            scoring()
        for task in ("lamp2", "lamp3") if known.only in (None, "both") else ():
            both(directory, task, more)
        for seed in (0, 1, 2) if known.only in (None, "alone") else ():
            alone(directory, seed, more)


if __name__ == "__main__":
    main()
