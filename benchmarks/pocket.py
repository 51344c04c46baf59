"""Measure the pocket model on unseen persona users (synthetic): `python -m benchmarks.pocket`.

Every task of the persona world, 200 users of the role `test`, the programs of the command line, and the controls. The
goals stand beside the results.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from metrics.lamp import METRICS
from programs.data.personas import MAKERS
from programs.evaluate.run import run_evaluate
from programs.runs.configs import EvaluateConfig
from programs.tasks import TASKS
from programs.ui.console import Console

CONTROLS = ("r2p:no_profile", "r2p:other_user", "r2p:random_items")


def verdict(goal: str, value: float, met: bool) -> None:
    print(f"{'met   ' if met else 'MISSED'} {goal}: {value:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--task", action="append", choices=[*MAKERS], help="default: all")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for task in arguments.task or MAKERS:
        with tempfile.TemporaryDirectory() as folder:
            config = EvaluateConfig.of(
                task=task, model=arguments.model, limit=arguments.limit, seed=arguments.seed, controls=True
            )
            console = Console()
            with console:
                report = run_evaluate(config, Path(folder) / "run", False, console)
            console.table(report, Path("(not kept)"))
            goals(task, report["programs"])


def goals(task: str, programs: dict[str, Any]) -> None:
    """Print which goals are met."""
    entry = programs["r2p"]
    metric = TASKS[task].metrics[0]
    sign = 1 if METRICS[metric].higher_is_better else -1
    value = entry["metrics"][metric]["value"]
    baselines = {name: reached for name, reached in entry["baselines"].items() if name != "blind_oracle"}
    best = max(baselines, key=lambda name: sign * baselines[name])
    verdict(
        f"{metric} better than the best trivial baseline ({best} {baselines[best]:.3f})",
        value,
        sign * value > sign * baselines[best],
    )
    if task == "lamp2":
        verdict("accuracy at least 0.80", value, value >= 0.80)
        above = value - entry["baselines"]["blind_oracle"]
        verdict("above the profile-blind oracle by at least 0.25", above, above >= 0.25)
    for name in CONTROLS:
        control = programs[name]["metrics"][metric]["value"]
        verdict(f"{name} worse than that", control, sign * control < sign * value)
    for goal, key, least in (
        ("structural compliance with assertions at least 0.99", "compliance", 0.99),
        ("evidence validity, first attempt, at least 0.90", "evidence_validity_first", 0.90),
        ("evidence validity with assertions at least 0.99", "evidence_validity", 0.99),
    ):
        verdict(goal, entry[key], entry[key] >= least)


if __name__ == "__main__":
    main()
