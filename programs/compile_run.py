"""`compile`: measure the baselines and R2P, compile R2P, and measure that. Fills a run directory."""

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
from programs.ready import baselines, r2p
from programs.reporter import Reporter
from programs.runs import read_json, write_json
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
    check_optimizer(options.optimizer, reflection=options.reflection_model is not None, training=trainable is not None)
    weights = weights_of(options.weights)
    experiment = Experiment("compile", options, reporter)
    composite(experiment.task, weights, options.threshold)  # raises for what cannot be
    reflection = options.reflect()
    experiment.begin(output, resume)
    task, run = experiment.task, experiment.run
    uncompiled = r2p(task, experiment.retriever)
    with dspy.context(lm=experiment.lm):
        for name, program in {**baselines(task, experiment.retriever), "r2p": uncompiled}.items():
            experiment.measure(name, program)
        saved, summary_file = run.path / "program.json", run.path / "compiling.json"
        if summary_file.exists():  # written after the program: compiling was done before the run was stopped
            compiled = r2p(task, experiment.retriever)
            load_program(compiled, saved, task=task.name)
            summary = read_json(summary_file)
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
            scored = composite(task, weights, options.threshold)
            notes = provenance(options, experiment.lm, experiment.data, task, scored, summary)
            save_program(compiled, saved, task=task.name, notes=notes)
            write_json(summary_file, summary)
        if summary["winner"] == "uncompiled":  # the same program on the same users: it is not asked again
            experiment.rows["compiled"] = experiment.rows["r2p"]
        else:
            experiment.measure("compiled", compiled)
    test = {name: report.metrics(task, experiment.rows[name]) for name in ("r2p", "compiled")}
    complete(saved, test, options.redact, experiment.data, task)
    return experiment.report({"compiling": summary, "program": "program.json"})
