"""`evaluate`: measure programs side by side on the same users and items. Fills a run directory."""

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import dspy

from programs.calls.keeping import CallKeeping
from programs.cluster.asking import Cluster, reached
from programs.cluster.row_worker import Asking
from programs.evaluate import judge as judging
from programs.evaluate.ablation import ablation, not_runnable
from programs.evaluate.controls import controls
from programs.evaluate.grounding import grounding
from programs.evaluate.measuring import Measurer
from programs.evaluate.report import Row
from programs.evaluate.setup import Setup
from programs.runs.active import open_run
from programs.runs.cautions import foreign_text
from programs.runs.configs import EvaluateConfig
from programs.runs.directory import SKIPPED_LATER
from programs.runs.reporter import Reporter
from programs.runs.skips import with_earlier_skips
from programs.tasks.program import default_settings
from r2p_dspy import R2P
from r2p_dspy.engines.connect import constrains
from r2p_dspy.errors import ConfigError


class Evaluation(NamedTuple):
    """A finished evaluation: its report, and the rows of every program."""

    report: dict[str, Any]
    rows: Mapping[str, Sequence[Row]]


def run_evaluate(config: EvaluateConfig, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Measure the baselines, R2P, a compiled program if one is given, and the controls if they are wanted.

    An ablation measures the programs of `ablation` instead.

    Args:
        config: what to measure.
        output: the run's directory.
        resume: go on with the run that is there. The examples of `--skip` are left out from now on.
        reporter: shows progress.

    Returns:
        The report.

    Raises:
        R2PError: one line on what is wrong, before anything is written or paid for.
        LMError: what the language model raises. What was measured until then is kept.
    """
    started = time.monotonic()
    skipped: list[str] = []
    if resume:
        config, skipped = with_earlier_skips(config, output)
    setup = Setup.of(config.program, config.data, reporter)
    lm = config.connect(setup.tokens_needed())
    return evaluate(config, setup, lm, output, resume, reporter, started, skipped).report


def evaluate(
    config: EvaluateConfig,
    setup: Setup,
    lm: dspy.LM,
    output: Path,
    resume: bool,
    reporter: Reporter,
    started: float | None = None,
    skipped: Collection[str] = (),
) -> Evaluation:
    """Evaluate with a program that is built and a model that is connected, both of `config`; see `run_evaluate`.

    `skipped` are the ids of examples that are left out since the run was started.
    """
    started = time.monotonic() if started is None else started
    task, data = setup.task, setup.data.without(skipped)
    programs = _programs(config, setup, lm)
    judge, second = (judging.connected(task, model) for model in (config.judge, config.second_judge))
    identity = setup.identity(lm, judge, second) | {SKIPPED_LATER: [*skipped]}
    setup = replace(setup, data=data)
    calls = CallKeeping.of(config.calls, config.cache, output / "calls")
    with (
        nullcontext() if config.ray is None else _cluster(config, setup, programs) as cluster,
        open_run(
            output,
            "evaluate",
            config.options(),
            identity,
            lm,
            reporter,
            resume=resume,
            calls=calls,
            mlflow=config.mlflow,
            max_failures=config.max_failures,
        ) as run,
        nullcontext() if cluster is None else cluster.each(run.limiter, calls, run.directory.id) as each,
    ):
        for caution in foreign_text(config.model.name, data.source):
            reporter.say(caution)
        measurer = Measurer(run, setup, config.num_threads, reporter, config.redact, each)
        extra, judgements = dict[str, Any](), dict[str, list[Row]]()
        with config.model.asking(run.lm):
            if config.ablate:
                trial = (data.train or data.test)[0]
                reasons = {name: not_runnable(name, program, trial) for name, program in programs.items()}
                extra["not_runnable"] = {name: reason for name, reason in reasons.items() if reason}
                programs = {name: program for name, program in programs.items() if not reasons[name]}
            for name, program in programs.items():
                measurer.measure(name, program)
            base = "r2p" if config.program.artifact is None else "compiled"
            if config.controls and base in measurer.rows:
                extra |= _grounding(measurer, base, cast(R2P, programs[base]))
        rows = measurer.rows
        if judge is not None:
            extra["judge"], judgements = judging.judge(
                task,
                data.test,
                rows,
                run.recorded(judge),
                run.directory,
                config.num_threads,
                reporter.start,
                config.max_failures,
                config.redact,
                second and run.recorded(second),
            )
        return Evaluation(measurer.write_report("evaluate", config.model, started, extra, judgements), rows)


def _cluster(
    config: EvaluateConfig, setup: Setup, programs: Mapping[str, dspy.Module]
) -> AbstractContextManager[Cluster]:
    """The cluster of `--ray`, which asks as this process would."""
    how = {"carrier": config.program.r2p.carrier, "needed": setup.tokens_needed()}
    asking = Asking(config.model, how, config.num_threads, config.ray_workers, config.max_failures)
    return reached(str(config.ray), asking, [config.program.task], [setup.task, *programs.values()])


def _grounding(measurer: Measurer, name: str, program: R2P) -> dict[str, Any]:
    """The report's part about what a program's citations are worth, unless a limit stops it."""
    task, examples, rows = measurer.setup.task, measurer.setup.data.test, measurer.rows[name]
    grounded = grounding(program, task, examples, rows, lambda run, *of: measurer.collect(f"{name}:{run}", *of))
    return {} if grounded is None else {"grounding": {name: grounded}}


def _programs(config: EvaluateConfig, setup: Setup, lm: dspy.LM) -> dict[str, dspy.Module]:
    """The programs to measure, by name. All of them see the same items, apart from the controls."""
    settings, explicit = config.program.r2p, config.program.explicit
    if config.ablate:
        programs = ablation(setup.program, setup.task, constrained=constrains(lm) == "grammar") | setup.baselines(
            config.model
        )
    else:
        # Uncompiled R2P has its default settings, apart from those that the user gave.
        own = default_settings(setup.task).model_copy(
            update={**explicit, "retriever": settings.retriever, "k": settings.k}
        )
        programs = {**setup.baselines(config.model), "r2p": setup.builder.build(own)}
        if config.program.artifact is not None:
            programs["compiled"] = setup.program
    if config.controls:
        seed, tokens = config.seed, config.program.retriever_tokens
        programs |= controls(setup.program, setup.task, setup.data.test, k=settings.k, seed=seed, tokens=tokens)
    if unknown := [name for name in config.only if name not in programs]:
        raise ConfigError(f"--only: no program {unknown[0]!r} is measured here; there are {', '.join(programs)}")
    return {name: program for name, program in programs.items() if name in (config.only or programs)}
