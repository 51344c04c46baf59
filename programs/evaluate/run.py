"""`evaluate`: measure programs side by side on the same users and items. Fills a run directory."""

from pathlib import Path
from typing import Any

import dspy

from programs.evaluate import judge as judging
from programs.evaluate.ablation import ablation, not_runnable
from programs.evaluate.baselines import baselines
from programs.evaluate.controls import controls
from programs.evaluate.experiment import Experiment
from programs.runs.configs import Options
from programs.runs.reporter import Reporter
from programs.tasks.program import R2PConfig


def run_evaluate(options: Options, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Measure the baselines and R2P, a compiled program if one is given, and the controls if they are asked for.

    For an ablation, measure the programs of `ablation` instead, and plot them.
    """
    experiment = Experiment("evaluate", options, reporter)
    with experiment.running(output, resume):
        return evaluate(experiment)


def evaluate(experiment: Experiment) -> dict[str, Any]:
    """What `run_evaluate` does, in an experiment that has begun."""
    task, options = experiment.task, experiment.options
    # Uncompiled is R2P as it comes, but for what was asked for, on the same items as the others.
    asked = R2PConfig().model_copy(update={**experiment.given, "retriever": options.retriever, "k": options.k})
    programs = {**baselines(task, experiment.retriever), "r2p": experiment.build(asked)}
    if options.program is not None:
        programs["compiled"] = experiment.loaded
    extra: dict[str, Any] = {}
    if options.ablate:
        programs = ablation(experiment.loaded, task)
    with dspy.context(lm=experiment.lm):
        if options.ablate:
            trial = (experiment.data.train or experiment.data.test)[0]
            cannot = {name: not_runnable(name, program, trial) for name, program in programs.items()}
            extra["not_runnable"] = {name: why for name, why in cannot.items() if why}
            programs = {name: program for name, program in programs.items() if not cannot[name]}
        for name, program in programs.items():
            experiment.measure(name, program)
        if options.controls:
            k, seed, tokens = experiment.settings.k, options.seed, options.retriever_tokens
            variants = controls(experiment.loaded, task, experiment.data.test, k=k, seed=seed, tokens=tokens)
            for name, program in variants.items():
                experiment.measure(name, program)
    if experiment.judge is not None:
        extra["judge"] = judging.judge(
            task,
            experiment.data.test,
            experiment.rows,
            experiment.judge,
            experiment.run,
            options.num_threads,
            experiment.reporter.start,
        )
    return experiment.report(extra)
