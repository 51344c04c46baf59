"""What the experiments of the command line share: model, data, a run directory, rows, and the report."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dspy

from programs.calls.cache import CallCache, CallCacheFailed, Usage
from programs.calls.prices import priced
from programs.calls.recording import record_calls
from programs.calls.usage import UsageLimiter, UsageLimitReached
from programs.data.dataset import Data, DataConfig
from programs.data.reading import read_examples
from programs.evaluate import judge as judging
from programs.evaluate import report
from programs.evaluate.first_call import FirstCall
from programs.evaluate.runner import measure
from programs.evaluate.submission import submission
from programs.optimize.optimizers import MIN_TRAIN
from programs.runs import tracking
from programs.runs.configs import ModelConfig, Options, digest
from programs.runs.directory import Run
from programs.runs.reporter import Reporter
from programs.tasks.program import R2PConfig, build, given, resolved
from programs.tasks.task_file import task_of
from programs.ui.plots import plot
from r2p_dspy import R2P, load_program
from r2p_dspy.engines.connect import in_process
from r2p_dspy.errors import RunError


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
    meter: UsageLimiter
    ledger: CallCache | None

    def __init__(self, command: str, options: Options, reporter: Reporter, found: Data | None = None):
        self.command, self.reporter = command, reporter
        self.given = given(options)
        self.options, self.settings = resolved(options)
        self.started = time.monotonic()
        self.task = task_of(options.task)
        self._items: dict[tuple[str, int], Any] = {}
        self.loaded = self.build(self.settings)
        if options.program is not None:
            load_program(self.loaded, options.program, task=self.task.name)
        self.retriever = self.loaded.retriever
        self.data = self._read() if found is None else found
        self.rows: dict[str, Sequence[report.Row]] = {}
        self.unmeasured: dict[str, str] = {}

    def build(self, settings: R2PConfig) -> R2P:
        """The task's R2P program with these settings, uncompiled."""
        key = settings.retriever, settings.k  # a retriever may hold weights and embeddings: it is made once
        seed, tokens = self.options.seed, self.options.retriever_tokens
        program = build(self.task, settings, seed=seed, tokens=tokens, items=self._items.get(key))
        self._items.setdefault(key, program.retriever)
        return program

    @contextmanager
    def running(self, output: Path, resume: bool) -> Iterator[Run]:
        """Connect to the model, and open the run's directory, which no other process can work in meanwhile.

        Args:
            output: the directory.
            resume: whether to go on with a run that is there.

        Raises:
            ValueError: (RunError, ValueError) one line on what is wrong, before anything is written; and when the disk
                becomes full.
        """
        options, budget = self.options, self.options.budget
        mlflow = tracking.connected(options.mlflow)
        # In-process calls are cheaper than bookkeeping of what a cache would hide: calls and tokens.
        lm = options.connect(cache=not in_process(options.model))
        judge = judging.connected(self.task, options.judge, options.judge_api_base, options.seed)
        record_calls(lm, None, UsageLimiter(budget))  # raises before anything is written
        # A run that is resumed must go on with the same model, data and program, not only with the same names.
        known = {"lm": lm.model, "examples": self.data.digest, "compiled": digest(options.program)}
        known["judge_lm"] = judge and judge.model
        known["task_file"] = digest(options.task)
        known["skipped"] = self.data.skipped
        if options.tune:  # what is given is not searched
            known["given"] = sorted(self.given)
        asked = options.asked()
        with (
            Run(output, {"command": self.command, **asked, **known}, resume) as self.run,
            tracking.tracked(mlflow, self.run.path, self.command, asked, self.reporter),
        ):
            self.ledger = ledger = self._ledger(output)
            self.meter = UsageLimiter(budget, ledger.usage(self.run.id) if ledger is not None else Usage())
            self.lm, self.judge = self.recorded(lm), judge and self.recorded(judge)
            try:
                yield self.run
            except CallCacheFailed as full:
                raise RunError(str(full)) from None
            finally:
                # Calls that are under way are paid for: what they bring is kept.
                self.meter.close(UsageLimitReached("the run is over"))
                self.meter.drain()
                if ledger is not None:
                    ledger.close()

    def _ledger(self, output: Path) -> CallCache | None:
        """Where calls are kept: what is compiled once is compiled again for nothing; what is evaluated is asked."""
        if self.command != "compile" or not self.options.cache:
            return None
        directory = Path(self.options.calls) if self.options.calls is not None else output.parent / "calls"
        try:
            return CallCache(directory, self.run.id)
        except RunError:
            self.run.withdraw()
            raise

    def recorded(self, lm: dspy.LM) -> dspy.LM:
        """A model whose calls are kept, and counted as the run's; every model that the run asks has to be one."""
        return record_calls(lm, self.ledger, self.meter)

    def _read(self) -> Data:
        options, compiling = self.options, self.command == "compile"
        config = DataConfig(options.data, options.limit, options.seed, options.skip, options.skip_bad, compiling)
        return read_examples(self.task, config, self.reporter.say, MIN_TRAIN)

    def measure(self, name: str, program: dspy.Module) -> None:
        """Run a program over the reported examples; where the budget is reached before the last, it is `unmeasured`."""
        rows = self.run.rows(name)
        done = len({row["id"] for row in rows})
        tick = self.reporter.start(name, len(self.data.test), done)
        threads = self.options.num_threads
        first = FirstCall(partial(self.reporter.call, name))
        # What a cache answers has no tokens and no price.
        with dspy.context(lm=self.lm.copy(cache=False), callbacks=[*dspy.settings.callbacks, first]):
            try:
                self.rows[name] = measure(program, self.data.test, self.task, rows, threads, tick)
            except UsageLimitReached as reached:
                self.meter.drain()
                done = len({row["id"] for row in rows})
                self.unmeasured[name] = f"{reached}; {done} of {len(self.data.test)} examples were asked by then"
                self.reporter.say(f"{name} is not measured: {self.unmeasured[name]}")

    def report(self, extra: Mapping[str, Any]) -> dict[str, Any]:
        """Write the report, and return it."""
        options = self.options
        done = report.build_report(
            self.command,
            self.task,
            self.data,
            self.rows,
            model=ModelConfig(options.model, options.api_base, options.temperature, options.seed),
            lm=self.lm,
            settings=self.settings,
            retriever_tokens=options.retriever_tokens,
            seconds=time.monotonic() - self.started,
            extra={"unmeasured": self.unmeasured, "calls": self.meter.report(priced=priced(self.lm.model)), **extra},
        )
        for name, rows in self.rows.items():
            self.run.save(f"submissions/{name}", submission(self.task, rows))
        if options.ablate:
            plot(done, self.run.path / "ablation.png")
        self.run.finish(done)
        return done
