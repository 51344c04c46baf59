"""`compile`: measure the baselines and R2P, tune and compile R2P, and measure that. Fills a run directory."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import dspy

from programs.calls.cache import Usage
from programs.calls.prices import cost
from programs.calls.usage import UsageLimitReached
from programs.evaluate import report
from programs.evaluate.baselines import baselines
from programs.evaluate.experiment import Experiment
from programs.optimize.best_candidate import compile_within_limits
from programs.optimize.compiling import compile_program, composite, parse_weights
from programs.optimize.estimate import actual, estimate, in_words, usage_of_rows
from programs.optimize.optimizers import check_optimizer, program_runs
from programs.optimize.tuning_run import compared, run_tuning
from programs.runs.configs import Options
from programs.runs.directory import read_json, write_json
from programs.runs.provenance import complete, provenance
from programs.runs.reporter import Reporter
from r2p_dspy import R2P, Composite, load_program, save_program
from r2p_dspy.errors import ConfigError

Trainable = Callable[[dspy.LM], dspy.LM]


def run_compile(
    options: Options, output: Path, resume: bool, reporter: Reporter, trainable: Trainable | None = None
) -> dict[str, Any]:
    """Measure the baselines and R2P, compile R2P, and measure that on users that it never saw.

    Args:
        options: what was asked for.
        output, resume: as of `Experiment.running`.
        reporter: who is told of progress.
        trainable: see `compile_program`.

    Returns:
        The report; the compiled program is `program.json` in the run's directory.

    Raises:
        ValueError: one line on what is wrong, before anything is written or paid for.
    """
    if options.optimizer == "none":
        if not options.tune:
            raise ConfigError("--optimizer none leaves nothing to do; add --tune, or name an optimizer")
    else:
        reflects = options.reflection_model is not None
        check_optimizer(options.optimizer, reflection=reflects, training=trainable is not None)
    experiment = Experiment("compile", options, reporter)
    scored = composite(experiment.task, parse_weights(options.weights), options.threshold)
    reflection = options.reflect()
    counted = trainable and (lambda lm: experiment.recorded(trainable(lm)))  # what is trained is asked too
    with experiment.running(output, resume):
        return compile_in(experiment, scored, reflection, counted)


def compile_in(
    experiment: Experiment, scored: Composite, reflection: dspy.LM | None, trainable: Trainable | None
) -> dict[str, Any]:
    """What `run_compile` does, in an experiment that has begun."""
    task, run, options = experiment.task, experiment.run, experiment.options
    settings, meter = experiment.settings, experiment.meter
    start, extra = "r2p", {}  # `start` is what is compiled
    with dspy.context(lm=experiment.lm):
        for name, program in {**baselines(task, experiment.retriever), "r2p": experiment.loaded}.items():
            experiment.measure(name, program)
        began, before, expected = meter.minutes, meter.usage + meter.replayed, _expected(experiment)
        if options.tune:
            with meter.reserving(*_outcome(experiment)):
                settings, extra["tuning"] = run_tuning(experiment, scored, stops=(UsageLimitReached,))
            start = "tuned"
            if str(settings) != str(experiment.settings):
                experiment.measure("tuned", experiment.build(settings))
            elif "r2p" in experiment.rows:  # the same program on the same users: it is not asked again
                experiment.rows["tuned"] = experiment.rows["r2p"]
        saved, summary_file = run.path / "program.json", run.path / "compiling.json"
        summary = read_json(summary_file) if summary_file.exists() else {"stopped": "not yet begun"}
        if "stopped" not in summary:  # written after the program: compiling was done before the run was stopped
            compiled = experiment.build(settings)
            load_program(compiled, saved, task=task.name)
            if summary.get("trained") and trainable is not None:  # weights are in no program's file
                compiled.set_lm(trainable(experiment.lm).copy(model=summary["trained"]))
        else:
            compiled, summary = _compiled(experiment, experiment.build(settings), reflection, trainable)
            notes = provenance(options, experiment.lm, experiment.data, task, scored, summary)
            save_program(compiled, saved, task=task.name, notes=notes, settings=settings.model_dump())
            write_json(summary_file, summary)
        if summary["winner"] != "uncompiled":
            experiment.measure("compiled", compiled)
        elif start in experiment.rows:
            experiment.rows["compiled"] = experiment.rows[start]
        if options.tune:
            extra["tuning"]["test"] = compared(experiment, ["tuned", "compiled"])
        took = actual(meter, before, meter.minutes - began)
    test = {name: report.metrics(task, rows) for name, rows in experiment.rows.items()}
    complete(saved, test, options.redact, experiment.data, task)
    plan = {"estimate": expected, "actual": took}
    return experiment.report({**extra, "compiling": summary, "plan": plan, "program": "program.json"})


def _compiled(
    experiment: Experiment, uncompiled: R2P, reflection: dspy.LM | None, trainable: Trainable | None
) -> tuple[R2P, dict[str, Any]]:
    """What the optimizer makes within the budget, and the summary of that."""
    options, data, tell = experiment.options, experiment.data, experiment.reporter.say
    if options.optimizer == "none":
        return uncompiled, {"optimizer": "none", "winner": "uncompiled", "dev_scores": {}, "demos": 0}
    tell(f"compiling with {options.optimizer} on {len(data.train)} training examples")
    compiling = partial(
        compile_program,
        uncompiled,
        experiment.task,
        data.train,
        data.dev,
        optimizer=options.optimizer,
        reflection=reflection and experiment.recorded(reflection),
        trainable=trainable,
        weights=parse_weights(options.weights),
        threshold=options.threshold,
        threads=options.num_threads,
        seed=options.seed,
        progress=tell,
    )
    with experiment.meter.reserving(*_outcome(experiment)):
        return compile_within_limits(compiling, uncompiled, data.dev, experiment.meter, options.optimizer)


def _expected(experiment: Experiment) -> dict[str, float] | None:
    """What compiling and measuring its outcome will take; None where R2P could not be measured."""
    rows, data, options = experiment.rows.get("r2p"), experiment.data, experiment.options
    if rows is None:
        return None
    trials = options.trials if options.tune else 0
    runs = program_runs(options.optimizer, len(data.train), len(data.dev), trials) + len(data.test)
    expected = estimate(_measured(experiment), len(rows), runs, options.num_threads)
    experiment.reporter.say(f"compiling, and measuring what comes out, will take about {in_words(expected)}")
    return expected


def _outcome(experiment: Experiment) -> tuple[Usage, float]:
    """What is kept of a budget for measuring what comes out, and its minutes: half as much again as R2P took."""
    found = _measured(experiment)
    part = Usage(*(round(1.5 * one, 6) for one in vars(found).values()))
    return part, part.seconds / experiment.options.num_threads / 60


def _measured(experiment: Experiment) -> Usage:
    """What measuring R2P took."""
    model = experiment.lm.model
    rows = experiment.rows.get("r2p", [])
    return usage_of_rows(rows, lambda prompt, completion: cost(model, {"prompt": prompt, "completion": completion}))
