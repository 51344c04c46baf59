"""`compile`: measure the baselines and R2P, tune and compile R2P, and measure the result. Fills a run directory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import dspy

from programs.calls.cache import Usage
from programs.calls.keeping import CallKeeping
from programs.calls.usage import UsageLimitReached
from programs.data.fitting import write_task_file
from programs.evaluate import report
from programs.evaluate.baselines import VOTE
from programs.evaluate.measuring import Measurer
from programs.evaluate.setup import Setup
from programs.optimize.best_candidate import compile_within_limits
from programs.optimize.compiling import compile_program, composite, parse_weights
from programs.optimize.estimate import actual, estimate, in_words, usage_of_rows
from programs.optimize.optimizers import MIN_TRAIN, check_optimizer, program_runs
from programs.optimize.trials import TrialRow
from programs.optimize.tuning import TEMPERATURES
from programs.optimize.tuning_run import compared, run_tuning, trial_files, trial_rows, tune_baseline
from programs.runs.active import open_run
from programs.runs.cautions import foreign_text
from programs.runs.configs import CompileConfig
from programs.runs.directory import SKIPPED_LATER, Rows, Run, read_json, write_json
from programs.runs.model import ModelConfig
from programs.runs.provenance import complete, provenance
from programs.runs.reporter import Reporter
from programs.runs.skips import with_earlier_skips
from r2p_dspy import R2P, Composite, CrossReference, load_program, save_program
from r2p_dspy.errors import ConfigError

Trainable = Callable[[dspy.LM], dspy.LM]


def run_compile(
    config: CompileConfig, output: Path, resume: bool, reporter: Reporter, trainable: Trainable | None = None
) -> dict[str, Any]:
    """Measure the baselines and R2P, compile R2P, and measure the compiled program on users that it never saw.

    Args:
        config: what to compile, and how.
        output: the run's directory; the compiled program is `program.json` in it.
        resume: go on with the run that is there. The examples of `--skip` are left out from now on.
        reporter: shows progress.
        trainable: see `compile_program`.

    Returns:
        The report.

    Raises:
        R2PError: one line on what is wrong, before anything is written or paid for.
        LMError: what the language model raises. Completed calls are kept.
    """
    started = time.monotonic()
    if config.optimizer != "none":
        check_optimizer(config.optimizer, reflection=config.reflection is not None, training=trainable is not None)
    elif not config.tune:
        raise ConfigError("--optimizer none leaves nothing to do; add --tune, or name an optimizer")
    if config.frontier is not None and config.optimizer != "gepa":
        raise ConfigError(f"--frontier is gepa's: drop it, or take --optimizer gepa instead of {config.optimizer}")
    skipped: list[str] = []
    if resume:
        config, skipped = with_earlier_skips(config, output)
    setup = Setup.of(config.program, config.data, reporter, least=MIN_TRAIN)
    scored = composite(setup.task, parse_weights(config.weights), config.threshold)
    reflection, lm = connect_reflection(config.reflection), config.connect(setup.tokens_needed())
    identity = setup.identity(lm) | ({"given": sorted(config.program.explicit)} if config.tune else {})
    identity |= {SKIPPED_LATER: skipped}
    setup = replace(setup, data=setup.data.without(skipped))
    # Shared with the runs beside it, whatever their rows: an optimizer asks much again that another has asked.
    calls = Path(config.calls) if config.calls is not None else output.parent / "calls"
    with open_run(
        output,
        "compile",
        config.options(),
        identity,
        lm,
        reporter,
        resume=resume,
        limits=config.limits,
        calls=CallKeeping(calls if config.cache else None, by_row=False),
        mlflow=config.mlflow,
        max_failures=config.max_failures,
    ) as run:
        for caution in foreign_text(config.model.name, setup.data.source):
            reporter.say(caution)
        measurer = Measurer(run, setup, config.num_threads, reporter, config.redact)
        counted = trainable and (lambda lm: run.recorded(trainable(lm)))  # programs ask a trained model too
        with config.model.asking(run.lm):
            extra = _compile_and_measure(config, measurer, scored, reflection, counted)
        test = {name: report.metrics(setup.task, rows) for name, rows in measurer.rows.items()}
        complete(run.directory.path / "program.json", test, config.redact, setup.data, setup.task)
        write_task_file(setup.task, run.directory.path)
        trials: dict[str, list[TrialRow]] = {}
        if config.tune:
            asked = setup.data.ids  # without what was left out since
            for name, rows in trial_rows(run.directory.path).items():
                trials[name] = [row for row in rows if row["id"] in asked]
            extra["tuning"]["failed_rows"] = report.failures(chain.from_iterable(trials.values()))
        return measurer.write_report("compile", config.model, started, extra, trials)


def _compile_and_measure(
    config: CompileConfig,
    measurer: Measurer,
    scored: Composite,
    reflection: dspy.LM | None,
    trainable: Trainable | None,
) -> dict[str, Any]:
    """The steps of `run_compile` in an open run; returns the command's own parts of the report."""
    run, setup = measurer.run, measurer.setup
    settings, limiter, extra = setup.config.r2p, run.limiter, dict[str, Any]()
    baselines = _Baselines(config, measurer, scored)
    for name, program in {**baselines.programs(), "r2p": setup.program}.items():
        measurer.measure(name, program)
    rows = measurer.rows.get("r2p", [])
    measured = usage_of_rows(rows, run.lm.model)
    # Kept for measuring the compiled program: half as much again as R2P took.
    reserve = Usage(*(round(1.5 * value, 6) for value in vars(measured).values()))
    reserving = partial(limiter.reserving, reserve, reserve.seconds / config.num_threads / 60)
    expected = None
    if rows:
        trials = config.trials if config.tune else 0
        runs = program_runs(config.optimizer, len(setup.data.train), len(setup.data.dev), trials) + len(setup.data.test)
        expected = estimate(measured, len(rows), runs, config.num_threads)
        cost = in_words(expected)
        measurer.reporter.say(f"compiling, and measuring the compiled program, will take about {cost}")
    start = "r2p"  # the program that is compiled
    if config.tune:
        with reserving():
            settings, extra["tuning"] = run_tuning(
                measurer, scored, config.trials, baselines.temperatures, stops=(UsageLimitReached,)
            )
        start = "tuned"
        if str(settings) != str(setup.config.r2p):
            measurer.measure("tuned", setup.builder.build(settings))
        elif "r2p" in measurer.rows:  # the same program on the same users: its rows are reused
            measurer.rows["tuned"] = measurer.rows["r2p"]
    saved, summary_file = run.directory.path / "program.json", run.directory.path / "compiling.json"
    summary: dict[str, Any] = read_json(summary_file) if summary_file.exists() else {"stopped": "not yet begun"}
    compiled, took = setup.builder.build(settings), Usage(**summary.pop("took", {}))
    if "stopped" not in summary:  # the summary is written after the program, so compiling was done before a stop
        load_program(compiled, saved, task=setup.task.name)
        if summary.get("trained") and trainable is not None:  # a program's file holds no weights
            compiled.set_lm(trainable(run.lm).copy(model=summary["trained"]))
    else:
        before = limiter.usage + limiter.replayed
        with reserving():
            compiled, summary = _compile(config, measurer, compiled, reflection, trainable)
        took = limiter.usage + limiter.replayed - before
        notes = provenance(config.model, run.lm, setup.data, setup.task, scored, summary)
        save_program(compiled, saved, task=setup.task.name, notes=notes, settings=settings.model_dump())
        write_json(summary_file, {**summary, "took": vars(took)})
        limiter.raise_if_closed()  # the best program so far is kept
    if summary["winner"] != "uncompiled":
        measurer.measure("compiled", compiled)
    elif start in measurer.rows:
        measurer.rows["compiled"] = measurer.rows[start]
    if config.tune:
        if {"compiled", "cot"} <= measurer.rows.keys():
            measurer.measure(VOTE, baselines.vote("compiled"))
        extra["tuning"]["baselines"] = baselines.tuned
        extra["tuning"]["test"] = compared(setup.task, measurer.rows, ["tuned", "compiled"])
    took += usage_of_rows(_planned_rows(run.directory), run.lm.model)
    plan = {"estimate": expected, "actual": actual(took, config.num_threads)}
    return {**extra, "compiling": summary, "plan": plan, "program": "program.json"}


class _Baselines:
    """What R2P is compared with in a run. Where R2P is tuned, each baseline has the temperature that is best for it."""

    def __init__(self, config: CompileConfig, measurer: Measurer, scored: Composite):
        self.model, self.measurer, self.scored = config.model, measurer, scored
        free = config.tune and config.model.temperature is None and config.model.used_temperature is not None
        own = config.model.used_temperature
        self.temperatures = [each for each in TEMPERATURES if each != own] if free else []
        self.tuned: dict[str, Any] = {}  # what the report tells, by the baseline's name

    def programs(self) -> dict[str, dspy.Module]:
        """Plain prediction and chain of thought."""
        names = self.measurer.setup.baselines(self.model)
        return {name: self._tuned(name, partial(self._at, name), self.temperatures) for name in names}

    def vote(self, equal: str) -> dspy.Module:
        """The majority of several chains of thought, which together take as many tokens as a measured program."""
        tokens = {
            name: sum(row["prompt_tokens"] + row["completion_tokens"] for row in self.measurer.rows[name])
            for name in (equal, "cot")
        }
        chains = max(3, round(tokens[equal] / max(1, tokens["cot"])))  # two have no majority
        task = self.measurer.setup.task

        def build(temperature: float | None) -> dspy.Module:
            return CrossReference(self._at("cot", temperature), task.answer, n=chains, on_unmet="return")

        voting = self._tuned(VOTE, build, [each for each in self.temperatures if each > 0])
        self.tuned[VOTE] = {**self.tuned.get(VOTE, {}), "chains": chains}
        return voting

    def _at(self, name: str, temperature: float | None) -> dspy.Module:
        program = self.measurer.setup.baselines(self.model)[name]
        program.temperature = temperature
        return program

    def _tuned(self, name: str, build: Callable[[float | None], dspy.Module], others: Sequence[float]) -> dspy.Module:
        """A baseline at the model's temperature, or at one of the others."""
        if not others:
            return build(None)
        own = self.model.used_temperature
        temperatures = [*others] if name == VOTE and not own else [own or 0.0, *others]
        try:
            program, self.tuned[name] = tune_baseline(self.measurer, name, build, self.scored, temperatures)
        except UsageLimitReached:
            return build(None)
        return program


def _planned_rows(directory: Run) -> list[dict[str, Any]]:
    """The rows of all that the plan covers: trials of `--tune`, and what was measured of the programs they led to."""
    trials = [Rows(path) for path in trial_files(directory.path)]
    return [row for rows in (*trials, directory.rows("tuned"), directory.rows("compiled")) for row in rows]


def connect_reflection(model: ModelConfig | None) -> dspy.LM | None:
    """The model that writes instructions, once it has answered; ConfigError if it cannot be reached, or is `pocket`."""
    if model is None:
        return None
    if model.name == "pocket":
        raise ConfigError("the pocket model cannot write instructions; give --reflection-model a larger one")
    lm = model.connect(cache=True)
    try:
        lm.copy(cache=False)("Answer with the word: yes")
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"the reflection model {model.name} cannot be reached ({reason}); check its key in the environment, "
            "--reflection-model and --reflection-api-base"
        ) from error
    return lm


def _compile(
    config: CompileConfig,
    measurer: Measurer,
    uncompiled: R2P,
    reflection: dspy.LM | None,
    trainable: Trainable | None,
) -> tuple[R2P, dict[str, Any]]:
    """The best program that the optimizer makes within the limits, and a summary of how it was made."""
    run, setup, reporter = measurer.run, measurer.setup, measurer.reporter
    if config.optimizer == "none":
        return uncompiled, {"optimizer": "none", "winner": "uncompiled", "dev_scores": {}, "demos": 0}
    reporter.say(f"compiling with {config.optimizer} on {len(setup.data.train)} training examples")
    compiling = partial(
        compile_program,
        uncompiled,
        setup.task,
        setup.data.train,
        setup.data.dev,
        optimizer=config.optimizer,
        reflection=reflection and run.advising(reflection),
        trainable=trainable,
        weights=parse_weights(config.weights),
        threshold=config.threshold,
        frontier=config.frontier or "instance",
        threads=config.num_threads,
        seed=config.seed,
        progress=reporter.say,
    )
    return compile_within_limits(compiling, uncompiled, setup.data.dev, run.limiter, config.optimizer)
