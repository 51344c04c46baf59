"""`compile`: measure the baselines and R2P, tune and compile R2P, and measure that. Fills a run directory."""

from pathlib import Path
from typing import Any

import dspy

from programs.compiling import compile_program, composite
from programs.experiment import Experiment
from programs.options import Options
from programs.ready import baselines
from programs.reporter import Reporter
from programs.runs import read_json, write_json
from programs.tuning_run import compared, run_tuning
from r2p_dspy import load_program, save_program


def run_compile(options: Options, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Measure the baselines and R2P, compile R2P, and measure that on users that it never saw.

    Returns:
        The report; the compiled program is `program.json` in the run's directory.

    Raises:
        ValueError: one line on what is wrong, before anything is written.
    """
    if options.optimizer == "none" and not options.tune:
        raise ValueError("--optimizer none leaves nothing to do; add --tune, or name an optimizer")
    experiment = Experiment("compile", options, reporter)
    experiment.begin(output, resume)
    task, run, settings = experiment.task, experiment.run, experiment.settings
    start, extra = "r2p", {}  # `start` is what is compiled
    with dspy.context(lm=experiment.lm):
        for name, program in {**baselines(task, experiment.retriever), "r2p": experiment.loaded}.items():
            experiment.measure(name, program)
        if options.tune:
            settings, extra["tuning"] = run_tuning(experiment, composite(task))
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
                    threads=options.num_threads,
                    seed=options.seed,
                    progress=reporter.say,
                )
            notes = {"data": experiment.data.source, "model": options.model, "seed": options.seed, **summary}
            save_program(compiled, saved, task=task.name, notes=notes, settings=settings.model_dump())
            write_json(summary_file, summary)
        if summary["winner"] == "uncompiled":  # the same program on the same users: it is not asked again
            experiment.rows["compiled"] = experiment.rows[start]
        else:
            experiment.measure("compiled", compiled)
        if options.tune:
            extra["tuning"]["test"] = compared(experiment, ["tuned", "compiled"])
    return experiment.report({**extra, "compiling": summary, "program": "program.json"})
