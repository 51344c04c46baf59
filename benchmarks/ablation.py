"""Measure what each part of R2P adds on unseen persona users (synthetic): `python -m benchmarks.ablation`.

Runs `evaluate --ablate` with the pocket model at temperature 1 on tasks 2 and 3 for 200 users of the role `test`, and
prints the goals beside the results. Prompts show four items and eight; eight are more than in the model's training, so
there is more to get wrong.
"""

import argparse
import itertools
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.pocket import verdict
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, history
from programs.evaluate.ablation import FULL, TEMPLATE
from programs.evaluate.run import run_evaluate
from programs.runs.configs import EvaluateConfig
from programs.runs.directory import results
from programs.tasks import TASKS
from programs.tasks.retrievers import default_retriever
from programs.ui.console import Console
from programs.ui.terminal import interval_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--k", type=int, nargs="+", default=[4, 8], help="items that a prompt shows")
    parser.add_argument("--output", help="where the runs and their figures go; default: a new folder in runs/")
    parser.add_argument("--resume", action="store_true", help="go on with the unfinished run of --output")
    arguments = parser.parse_args()
    folder = Path(arguments.output or tempfile.mkdtemp(prefix="ablation-", dir=_runs()))
    for task, k in itertools.product(("lamp2", "lamp3"), arguments.k):
        config = EvaluateConfig.of(
            task=task,
            k=k,
            model=arguments.model,
            limit=arguments.limit,
            seed=arguments.seed,
            temperature=arguments.temperature,
            ablate=True,
        )
        directory, console = folder / f"{task}-k{k}", Console()
        with console:
            report = run_evaluate(config, directory, arguments.resume, console)
        console.table(report, directory)
        goals(report)
        lost_answers(task, k, directory, arguments)


def _runs() -> Path:
    Path("runs").mkdir(exist_ok=True)
    return Path("runs")


def goals(report: dict[str, Any]) -> None:
    """Print which goals are met."""
    programs = report["programs"]
    full, template = programs[FULL], programs[TEMPLATE]
    verdict("structural compliance with intervention at least 0.995", full["compliance"], full["compliance"] >= 0.995)
    ratio = full["tokens"]["completion"] / template["tokens"]["completion"]
    verdict("its completion tokens at most 1.15 times the template's", ratio, ratio <= 1.15)
    metric = next(iter(full["metrics"]))
    candidate_goals(programs, report["differences"][FULL]["r2p:candidates"][metric])
    gain = report["differences"]["cot"]["r2p:candidates"][metric]
    print(f"R2P with cross-referencing minus chain of thought: {interval_text(gain, '+')}")


def candidate_goals(programs: Mapping[str, Any], gain: Mapping[str, float]) -> None:
    """Print which goals of cross-referencing are met.

    Args:
        programs: the report's entries.
        gain: how much all candidates exceed a single sample in the task's first metric, with its interval.
    """
    few, many = programs["r2p:adaptive"], programs["r2p:candidates"]
    metric = next(iter(many["metrics"]))
    sign = -1 if metric in ("mae", "rmse") else 1
    least = min(sign * gain["low"], sign * gain["high"])
    verdict(f"cross-referencing above a single sample ({metric}, the interval's worse end)", least, least > 0)
    behind = round(sign * (many["metrics"][metric]["value"] - few["metrics"][metric]["value"]), 4)
    verdict("adaptive within 0.005 of it", behind, behind <= 0.005)
    share = few["tokens"]["completion"] / many["tokens"]["completion"]
    verdict("its completion tokens at most 0.60 of all candidates'", share, share <= 0.60)


def lost_answers(name: str, k: int, directory: Path, arguments: argparse.Namespace) -> None:
    """Print where wrong answers come from: an item was not retrieved, not cited, or misread.

    An item decides when it holds the detail that this user goes by (task 2), or one of the aspects (task 3).
    """
    task = TASKS[name]
    cases = {str(case.persona): case for case in draw(MAKERS[name], "test", arguments.limit, arguments.seed)}
    retriever = default_retriever(task, k)
    for program in ("cot", TEMPLATE, FULL, "r2p:candidates"):
        wrong = [row for row in results(directory, program) if row["answer"] != row["gold"]]
        lost: Counter[str] = Counter()
        for row in wrong:
            case = cases[row["id"]]
            words = {cue.word for cue in case.cues if case.focus in ("", cue.kind)}
            profile = history(task, case)
            deciding = {item.id for item in profile if words & {*item.text.split()}}
            retrieved = {item.id for item in retriever(case.question, profile)}
            if not deciding <= retrieved:
                lost["not retrieved"] += 1
            elif program != "cot" and not deciding <= {*row["cited"]}:
                lost["retrieved, not cited"] += 1
            else:
                lost["misread"] += 1
        print(f"{program}: {len(wrong)} wrong of {len(cases)}: {dict(lost)}")


if __name__ == "__main__":
    main()
