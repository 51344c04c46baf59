"""Whether the answers follow what they cite (synthetic persona users): `python -m benchmarks.grounding`.

Each question of 200 users of the role `test` is asked again without each of the items that the prompt showed. The
counterfactual test then compares R2P's own evidence with the same evidence shuffled: other shown items in the place of
the cited ones. Differences are paired by example, intervals over users.
"""

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks.pocket import verdict
from programs.data.personas import MAKERS
from programs.evaluate.run import run_evaluate
from programs.runs.configs import EvaluateConfig
from programs.runs.reporter import Reporter
from programs.ui.terminal import interval_text

_TASKS = ("lamp2", "lamp3", "lamp4")  # labels, ratings, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--task", action="append", choices=[*MAKERS], help=f"default: {', '.join(_TASKS)}")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for task in arguments.task or _TASKS:
        began = time.monotonic()
        config = EvaluateConfig.of(
            task=task,
            model=arguments.model,
            limit=arguments.limit,
            seed=arguments.seed,
            controls=True,
            only=("r2p",),
        )
        with tempfile.TemporaryDirectory() as folder:
            report = run_evaluate(config, Path(folder) / "run", False, Reporter())
        grounded = report["grounding"]["r2p"]
        for name in ("evidence_recall", "faithfulness", "faithfulness_shuffled", "faithfulness_gain"):
            print(f"{task}, {name}: {interval_text(grounded[name], '+' if name == 'faithfulness_gain' else '')}")
        gain = grounded["faithfulness_gain"]["low"]
        verdict(f"{task}: true evidence is told from shuffled evidence (the interval's lower end)", gain, gain > 0)
        print(f"{task}: {report['examples']} users, {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
