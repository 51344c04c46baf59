"""What each part of R2P adds on unseen persona users (synthetic): `python -m benchmarks.ablation`.

The pocket model at temperature 1, tasks 2 and 3, 200 users of the role `test`: the command line's `evaluate --ablate`,
with the goals of the release beside what is measured.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.pocket import verdict
from programs.ablation import FULL, TEMPLATE
from programs.console import Console
from programs.experiment import Options, run_evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--output", default="runs/ablation", help="where the runs and their figures go")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    for task in ("lamp2", "lamp3"):
        options = Options(
            task=task,
            model=arguments.model,
            limit=arguments.limit,
            seed=arguments.seed,
            temperature=arguments.temperature,
            ablate=True,
        )
        directory, console = Path(arguments.output) / task, Console()
        with console:
            report = run_evaluate(options, directory, arguments.resume, console)
        console.table(report, directory)
        goals(report)


def goals(report: dict[str, Any]) -> None:
    """Print which goals are met."""
    programs = report["programs"]
    full, template = programs[FULL], programs[TEMPLATE]
    verdict("structural compliance with intervention at least 0.995", full["compliance"], full["compliance"] >= 0.995)
    ratio = full["tokens"]["completion"] / template["tokens"]["completion"]
    verdict("its completion tokens at most 1.15 times the template's", ratio, ratio <= 1.15)
    metric = next(iter(full["metrics"]))
    sign = -1 if metric in ("mae", "rmse") else 1
    gain = report["differences"][FULL]["r2p:candidates"]
    least = min(sign * gain["low"], sign * gain["high"])
    verdict(f"cross-referencing above a single sample ({metric}, the interval's worse end)", least, least > 0)
    few, all_ = programs["r2p:adaptive"], programs["r2p:candidates"]
    behind = sign * (all_["metrics"][metric]["value"] - few["metrics"][metric]["value"])
    verdict("adaptive within 0.005 of it", behind, behind <= 0.005)
    share = few["tokens"]["completion"] / all_["tokens"]["completion"]
    verdict("its completion tokens at most 0.60 of all candidates'", share, share <= 0.60)
    print(f"R2P with cross-referencing against chain of thought: {report['differences_to_cot']['r2p:candidates']}")


if __name__ == "__main__":
    main()
