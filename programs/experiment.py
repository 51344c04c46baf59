"""The two experiments of the command line: compile, and evaluate. Each fills a run directory and returns its report."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dspy

from programs import data, judging, report
from programs.ablation import FULL, TEMPLATE, ablation, not_runnable
from programs.compiling import LEAST, OPTIMIZERS, compile_program
from programs.controls import controls
from programs.jsonl_data import is_jsonl, jsonl
from programs.lamp_data import DataError
from programs.measure import measure
from programs.plot import plot
from programs.ready import baselines, r2p
from programs.reporter import Reporter
from programs.retrievers import retriever
from programs.runs import Run, write_json
from programs.submission import submission
from programs.task_file import task_of
from r2p_dspy import connect, load_program, save_program
from r2p_dspy.engines.connect import in_process
from r2p_dspy.signature import Carrier


@dataclass(frozen=True)
class Options:
    """What an experiment is asked for; see the command line's help for each."""

    task: str
    data: str | None = None
    model: str = "pocket"
    api_base: str | None = None
    retriever: str = "bm25"
    k: int = 4
    retriever_tokens: int | None = None
    skip: tuple[str, ...] = ()
    skip_bad: bool = False
    limit: int | None = None
    seed: int = 0
    num_threads: int = 16
    temperature: float = 0.0
    optimizer: str = "random"
    program: str | None = None
    controls: bool = False
    ablate: bool = False
    carrier: Carrier = "fields"
    judge: str | None = None
    judge_api_base: str | None = None


class Experiment:
    """Everything that both experiments share.

    Args:
        command: "compile" or "evaluate".
        options: what was asked for.
        reporter: who is told of progress.
        found: the examples, where they are read already.

    Raises:
        ValueError: (DataError, ArtifactError, ValueError) one line on what is wrong with the options.
    """

    lm: dspy.LM
    run: Run

    def __init__(self, command: str, options: Options, reporter: Reporter, found: data.Data | None = None):
        self.command, self.options, self.reporter = command, options, reporter
        self.started = time.monotonic()
        self.task = task_of(options.task)
        if options.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optimizer {options.optimizer!r}; the optimizers are {', '.join(OPTIMIZERS)}")
        self.retriever = retriever(
            self.task, options.retriever, k=options.k, seed=options.seed, tokens=options.retriever_tokens
        )
        program = r2p(self.task, self.retriever, options.carrier)
        if options.program is not None:
            load_program(program, options.program, task=self.task.name)
        self.loaded = program
        self.data = self._data() if found is None else found
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def begin(self, output: Path, resume: bool) -> None:
        """Connect to the model, and open the run's directory.

        Args:
            output: the directory.
            resume: whether to go on with a run that is there.

        Raises:
            ValueError: (RunError, ValueError) one line on what is wrong, before anything is written.
        """
        options = self.options
        self.lm = connect(
            options.model,
            api_base=options.api_base,
            temperature=options.temperature,
            seed=options.seed,
            # In-process calls are cheaper than bookkeeping of what a cache would hide: calls and tokens.
            cache=not in_process(options.model),
            # What the pocket model ever has to say is shorter; one that babbles is to be cut off soon.
            max_tokens=256 if options.model == "pocket" else None,
        )
        self.judge = judging.connected(self.task, options.judge, options.judge_api_base, options.seed)
        # A run that is resumed must go on with the same model, data and program, not only with the same names.
        known = {"lm": self.lm.model, "examples": self.data.digest, "compiled": _digest(options.program)}
        known["judge_lm"] = self.judge and self.judge.model
        known["task_file"] = _digest(options.task) if Path(options.task).is_file() else None
        known["skipped"] = self.data.skipped
        self.run = Run(output, {"command": self.command, **asdict(options), **known}, resume)

    def _data(self) -> data.Data:
        options = self.options
        if options.limit is not None and options.limit < 1:
            raise DataError(f"--limit must be at least 1, not {options.limit}")
        if options.data is None:
            return data.personas(self.task, seed=options.seed, limit=options.limit)
        compiling = self.command == "compile"
        path = Path(options.data)
        found = (jsonl if is_jsonl(path) or not self.task.lamp else data.lamp)(
            self.task,
            path,
            seed=options.seed,
            limit=options.limit,
            compiling=compiling,
            skip=options.skip,
            skip_bad=options.skip_bad,
        )
        for name, ids in found.skipped.items():
            few = ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
            self.reporter.say(f"{name}: {len(ids)} flawed rows are left out ({few}); config.json names them")
        if compiling and (len(found.train) < LEAST or not found.dev):
            raise DataError(
                f"{options.data} leaves {len(found.train)} examples to train on and {len(found.dev)} to choose by; "
                f"compiling needs at least {LEAST} and 1: raise --limit, or give more data"
            )
        return found

    def measure(self, name: str, program: dspy.Module) -> None:
        """Run a program over the reported examples."""
        rows = self.run.rows(name)
        done = len({row["id"] for row in rows})
        tick = self.reporter.start(name, len(self.data.test), done)
        threads = self.options.num_threads
        with dspy.context(lm=self.lm.copy(cache=False)):  # what a cache answers has no tokens and no price
            self.rows[name] = measure(program, self.data.test, self.task, rows, threads, tick)

    def report(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Write the report, and return it."""
        options, found = self.options, report.floors(self.task, self.data.test, self.data.train)
        done = {
            "command": self.command,
            "task": self.task.name,
            "split": self.data.split,
            "data": self.data.source,
            "model": options.model,
            "lm": self.lm.model,
            "retriever": options.retriever,
            "k": options.k,
            "retriever_tokens": options.retriever_tokens,
            "seed": options.seed,
            "examples": len(self.data.test),
            "shared_users": self.data.shared_users,
            "skipped": self.data.skipped,
            "seconds": round(time.monotonic() - self.started, 1),
            "programs": {name: report.entry(self.task, rows, found, self.lm) for name, rows in self.rows.items()},
            "differences_to_cot": report.differences(self.task, self.rows, "cot") if "cot" in self.rows else {},
            **extra,
        }
        for name, rows in self.rows.items():
            self.run.save(f"submissions/{name}", submission(self.task, rows))
        if options.ablate:
            plot(done, self.run.path / "ablation.png")
        self.run.finish(done)
        return done


def run_compile(options: Options, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Measure the baselines and R2P, compile R2P, and measure that on users that it never saw.

    Returns:
        The report; the compiled program is `program.json` in the run's directory.
    """
    experiment = Experiment("compile", options, reporter)
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
            summary = _read(summary_file)
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
            save_program(compiled, saved, task=task.name, notes=notes)
            write_json(summary_file, summary)
        if summary["winner"] == "uncompiled":  # the same program on the same users: it is not asked again
            experiment.rows["compiled"] = experiment.rows["r2p"]
        else:
            experiment.measure("compiled", compiled)
    return experiment.report({"compiling": summary, "program": "program.json"})


def run_evaluate(options: Options, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Measure the baselines and R2P, a compiled program if one is given, and the controls if they are asked for.

    For an ablation, measure the programs of `ablation` instead, and plot them.
    """
    experiment = Experiment("evaluate", options, reporter)
    experiment.begin(output, resume)
    return evaluate(experiment)


def evaluate(experiment: Experiment) -> dict[str, Any]:
    """What `run_evaluate` does, in an experiment that has begun."""
    task, options = experiment.task, experiment.options
    programs = {**baselines(task, experiment.retriever), "r2p": r2p(task, experiment.retriever, options.carrier)}
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
            for name, program in controls(experiment.loaded, task, experiment.data.test, options).items():
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
    if options.ablate:
        extra["differences"] = {base: report.differences(task, experiment.rows, base) for base in (TEMPLATE, FULL)}
    return experiment.report(extra)


def _digest(path: str | None) -> str | None:
    return None if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
