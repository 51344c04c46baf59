"""Measure what five candidates gain over one: `python -m benchmarks.candidates`.

The pocket model at temperature 1, tasks 2 and 3, users of the role `test` (synthetic); the first 200 are those of
`benchmarks.ablation`. A single sample errs on two or three users in a hundred. On 200 users, candidates can correct
three or four answers, which could be chance, so this takes thousands of users.
"""

import argparse
import tempfile
from pathlib import Path

import dspy
from tqdm import tqdm

from benchmarks.ablation import candidate_goals
from programs.data.dataset import personas
from programs.evaluate import report
from programs.evaluate.ablation import FULL, ablation
from programs.evaluate.runner import measure
from programs.runs.directory import Run
from programs.tasks import TASKS
from programs.tasks.program import r2p
from programs.ui.terminal import interval_text
from r2p_dspy import connect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--task", action="append", choices=["lamp2", "lamp3"], help="default: both")
    parser.add_argument("--limit", type=int, default=3000, help="users of a task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", help="where the runs go; default: a new folder in runs/")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished runs of --output")
    arguments = parser.parse_args()
    Path("runs").mkdir(exist_ok=True)
    folder = Path(arguments.output or tempfile.mkdtemp(prefix="candidates-", dir="runs"))
    for name in arguments.task or ("lamp2", "lamp3"):
        task = TASKS[name]
        examples = personas(task, seed=arguments.seed, limit=arguments.limit).test
        lm = connect(arguments.model, temperature=1.0, seed=arguments.seed, cache=False, max_tokens=256)
        config = {"task": name, "lm": lm.model, "limit": arguments.limit, "seed": arguments.seed}
        run = Run(folder / name, config, arguments.resume and (folder / name).exists())
        programs, rows = ablation(r2p(task), task), {}
        for program in (FULL, "r2p:candidates", "r2p:adaptive"):
            results = run.rows(program)
            done = sum(1 for _ in results)
            with tqdm(total=len(examples), initial=done, desc=f"{name} {program}") as bar, dspy.context(lm=lm):
                rows[program] = measure(programs[program], examples, task, results, 16, lambda bar=bar: bar.update())
        entries = {program: report.entry(task, results, {}, lm) for program, results in rows.items()}
        differences = report.differences(task, rows, FULL)
        run.finish({**config, "programs": entries, "differences": {FULL: differences}})
        metric = task.metrics[0]
        print(f"{name}, {len(examples)} users, {metric} (95 %), completion tokens per answer")
        for program, entry in entries.items():
            value, tokens = entry["metrics"][metric], entry["tokens"]["completion"] / len(examples)
            print(f"  {program}: {interval_text(value)}, {tokens:.0f}")
        for program, difference in differences.items():
            print(f"  {program} - {FULL}: {interval_text(difference, '+')}")
        candidate_goals(entries, differences["r2p:candidates"])


if __name__ == "__main__":
    main()
