"""`compile`: measure the baselines and R2P, tune and compile R2P, and measure that. Fills a run directory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy

from programs import report
from programs.compiling import compile_program, composite, weights_of
from programs.experiment import Experiment
from programs.optimizers import check_optimizer
from programs.options import Options
from programs.provenance import complete, provenance
from programs.ready import baselines
from programs.reporter import Reporter
from programs.runs import read_json, write_json
from programs.tuning_run import compared, run_tuning
from r2p_dspy import load_program, save_program


def run_compile(
    options: Options,
    output: Path,
    resume: bool,
    reporter: Reporter,
    trainable: Callable[[dspy.LM], dspy.LM] | None = None,
) -> dict[str, Any]:
    """Measure the baselines and R2P, compile R2P, and measure that on users that it never saw.

    Args:
        options: what was asked for.
        output, resume: as of `Experiment.begin`.
        reporter: who is told of progress.
        trainable: see `compile_program`.

    Returns:
        The report; the compiled program is `program.json` in the run's directory.

    Raises:
        ValueError: one line on what is wrong, before anything is written or paid for.
    """
    if options.optimizer == "none":
        if not options.tune:
            raise ValueError("--optimizer none leaves nothing to do; add --tune, or name an optimizer")
    else:
        reflects = options.reflection_model is not None
        check_optimizer(options.optimizer, reflection=reflects, training=trainable is not None)
    weights = weights_of(options.weights)
    experiment = Experiment("compile", options, reporter)
    scored = composite(experiment.task, weights, options.threshold)
    reflection = options.reflect()
    experiment.begin(output, resume)
    task, run, settings = experiment.task, experiment.run, experiment.settings
    start, extra = "r2p", {}  # `start` is what is compiled
    with dspy.context(lm=experiment.lm):
        for name, program in {**baselines(task, experiment.retriever), "r2p": experiment.loaded}.items():
            experiment.measure(name, program)
        if options.tune:
            settings, extra["tuning"] = run_tuning(experiment, scored)
            start = "tuned"
            if str(settings) == str(experiment.settings):
                experiment.rows["tuned"] = experiment.rows["r2p"]
            else:
                experiment.measure("tuned", experiment.build(settings))
        uncompiled = experiment.build(settings)
        saved, summary_file = run.path / "program.json", run.path / "compiling.json"
        if summary_file.exists():  # written after the program: compiling was done before the run was stopped
            compiled = experiment.build(settings)
            load_program(compiled, saved, task=task.name)
            summary = read_json(summary_file)
        else:
            if options.optimizer == "none":
                compiled = uncompiled
                summary = {"optimizer": "none", "winner": "uncompiled", "dev_scores": {}, "demos": 0}
            else:
                reporter.say(f"compiling with {options.optimizer} on {len(experiment.data.train)} training examples")
                compiled, summary = compile_program(
                    uncompiled,
                    task,
                    experiment.data.train,
                    experiment.data.dev,
                    optimizer=options.optimizer,
                    reflection=reflection,
                    trainable=trainable,
                    weights=weights,
                    threshold=options.threshold,
                    threads=options.num_threads,
                    seed=options.seed,
                    progress=reporter.say,
                )
            notes = provenance(options, experiment.lm, experiment.data, task, scored, summary)
            save_program(compiled, saved, task=task.name, notes=notes, settings=settings.model_dump())
            write_json(summary_file, summary)
        if summary["winner"] == "uncompiled":  # the same program on the same users: it is not asked again
            experiment.rows["compiled"] = experiment.rows[start]
        else:
            experiment.measure("compiled", compiled)
        if options.tune:
            extra["tuning"]["test"] = compared(experiment, ["tuned", "compiled"])
    test = {name: report.metrics(task, rows) for name, rows in experiment.rows.items()}
    complete(saved, test, options.redact, experiment.data, task)
    return experiment.report({**extra, "compiling": summary, "program": "program.json"})
