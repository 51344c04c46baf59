"""`compile`: measure the baselines and R2P, compile R2P, and measure that. Fills a run directory."""

from functools import partial
from pathlib import Path
from typing import Any

import dspy

from programs.best import within_budget
from programs.compiling import compile_program
from programs.estimate import actual, estimate, in_words, of_rows, program_runs
from programs.experiment import Experiment
from programs.ledger import Spent
from programs.options import Options
from programs.prices import cost
from programs.ready import baselines, r2p
from programs.reporter import Reporter
from programs.runs import read_json, write_json
from r2p_dspy import load_program, save_program


def run_compile(options: Options, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Measure the baselines and R2P, compile R2P, and measure that on users that it never saw.

    Returns:
        The report; the compiled program is `program.json` in the run's directory.
    """
    experiment = Experiment("compile", options, reporter)
    with experiment.running(output, resume):
        return compile_in(experiment)


def compile_in(experiment: Experiment) -> dict[str, Any]:
    """What `run_compile` does, in an experiment that has begun."""
    task, run, options = experiment.task, experiment.run, experiment.options
    uncompiled = r2p(task, experiment.retriever)
    with dspy.context(lm=experiment.lm):
        for name, program in {**baselines(task, experiment.retriever), "r2p": uncompiled}.items():
            experiment.measure(name, program)
        meter, started = experiment.meter, experiment.meter.minutes
        before, expected = meter.spent + meter.replayed, _expected(experiment)
        saved, summary_file = run.path / "program.json", run.path / "compiling.json"
        summary = read_json(summary_file) if summary_file.exists() else {"stopped": "not yet begun"}
        if "stopped" not in summary:  # written after the program: compiling was done before the run was stopped
            compiled = r2p(task, experiment.retriever)
            load_program(compiled, saved, task=task.name)
        else:
            experiment.reporter.say(
                f"compiling with {options.optimizer} on {len(experiment.data.train)} training examples"
            )
            compiling = partial(
                compile_program,
                uncompiled,
                task,
                experiment.data.train,
                experiment.data.dev,
                optimizer=options.optimizer,
                threads=options.num_threads,
                seed=options.seed,
                progress=experiment.reporter.say,
            )
            with meter.holding(*_outcome(experiment)):
                compiled, summary = within_budget(compiling, uncompiled, experiment.data.dev, meter, options.optimizer)
            notes = {"data": experiment.data.source, "model": options.model, "seed": options.seed, **summary}
            save_program(compiled, saved, task=task.name, notes=notes)
            write_json(summary_file, summary)
        if summary["winner"] != "uncompiled":
            experiment.measure("compiled", compiled)
        elif "r2p" in experiment.rows:  # the same program on the same users: it is not asked again
            experiment.rows["compiled"] = experiment.rows["r2p"]
        took = actual(meter, before, meter.minutes - started)
    plan = {"estimate": expected, "actual": took}
    return experiment.report({"compiling": summary, "plan": plan, "program": "program.json"})


def _expected(experiment: Experiment) -> dict[str, float] | None:
    """What compiling and measuring its outcome will take; None where R2P could not be measured."""
    rows, data, options = experiment.rows.get("r2p"), experiment.data, experiment.options
    if rows is None:
        return None
    runs = program_runs(options.optimizer, len(data.train), len(data.dev)) + len(data.test)
    expected = estimate(_measured(experiment), len(rows), runs, options.num_threads)
    experiment.reporter.say(f"compiling, and measuring what comes out, will take about {in_words(expected)}")
    return expected


def _outcome(experiment: Experiment) -> tuple[Spent, float]:
    """What is kept of a budget for measuring what comes out, and its minutes: half as much again as R2P took."""
    found = _measured(experiment)
    part = Spent(*(round(1.5 * one, 6) for one in vars(found).values()))
    return part, part.seconds / experiment.options.num_threads / 60


def _measured(experiment: Experiment) -> Spent:
    """What measuring R2P took."""
    model = experiment.lm.model
    rows = experiment.rows.get("r2p", [])
    return of_rows(rows, lambda prompt, completion: cost(model, {"prompt": prompt, "completion": completion}))
