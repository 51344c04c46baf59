"""Measuring programs in a run, and writing the run's report."""

import json
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import dspy

from programs.calls.asking import Each
from programs.calls.prices import priced
from programs.calls.usage import UsageLimitReached
from programs.evaluate.first_call import FirstCall
from programs.evaluate.report import Row, build_report
from programs.evaluate.runner import finished, measure
from programs.evaluate.setup import Setup
from programs.evaluate.submission import submission
from programs.report_html.page import write_page
from programs.runs.active import ActiveRun
from programs.runs.directory import FAILED
from programs.runs.model import ModelConfig
from programs.runs.reporter import Reporter
from r2p_dspy.files import write_atomic


class Measurer:
    """Measures programs on the reported examples of a run, and writes its report."""

    def __init__(
        self,
        run: ActiveRun,
        setup: Setup,
        threads: int,
        reporter: Reporter,
        redact: bool = False,
        each: Each | None = None,
    ):
        self.run, self.setup, self.threads, self.reporter = run, setup, threads, reporter
        self.redact = redact  # whether users' texts are left out of what is kept
        self.each = each  # where programs run; None for threads of this process
        self.rows: dict[str, Sequence[Row]] = {}  # of every measured program, by its name
        self.unmeasured: dict[str, str] = {}  # why a program was not measured on all examples, by its name

    def measure(self, name: str, program: dspy.Module) -> None:
        """Run a program on the reported examples. If the run's limits stop it before the last, it is `unmeasured`."""
        rows = self.collect(name, program, self.setup.data.test)
        if rows is not None:
            self.rows[name] = rows

    def collect(self, name: str, program: dspy.Module, examples: Sequence[dspy.Example]) -> Sequence[Row] | None:
        """Run a program on some examples, without reporting it; None if the run's limits stop it."""
        rows = self.run.directory.rows(name)
        tick = self.reporter.start(name, len(examples), len(finished(rows)))
        first = FirstCall(partial(self.reporter.call, name))
        # Answers from DSPy's cache have no tokens and no price.
        with dspy.context(lm=self.run.lm.copy(cache=False), callbacks=[*dspy.settings.callbacks, first]):
            try:
                return measure(
                    program,
                    examples,
                    self.setup.task,
                    rows,
                    self.threads,
                    tick,
                    self.run.max_failures,
                    None if self.redact else self.run.directory.transcripts(name),
                    self.redact,
                    self.each,
                )
            except UsageLimitReached as reached:
                self.run.limiter.drain()
                done = len(finished(rows))
                self.unmeasured[name] = f"{reached}; {done} of {len(examples)} examples were asked by then"
                self.reporter.say(f"{name} is not measured: {self.unmeasured[name]}")
                return None

    def write_report(
        self,
        command: str,
        model: ModelConfig,
        started: float,
        extra: Mapping[str, Any],
        others: Mapping[str, Sequence[Row]] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Write the report with its page, the submissions, and the file of failed rows; return the report.

        The command's own parts of the report are in `extra`; `others` are rows beside those of the programs, such as
        judgements, which may have failed too.
        """
        task, config, lm, directory = self.setup.task, self.setup.config, self.run.lm, self.run.directory
        calls = self.run.limiter.report(priced=priced(lm.model))
        report = build_report(
            command,
            task,
            self.setup.data,
            self.rows,
            model=model,
            lm=lm,
            settings=config.r2p,
            retriever_tokens=config.retriever_tokens,
            seconds=time.monotonic() - started,
            extra={"unmeasured": self.unmeasured, "calls": calls, **extra},
        )
        for name, rows in self.rows.items():
            directory.save(f"submissions/{name}", submission(task, rows))
        write_failed(directory.path / FAILED, {**self.rows, **others}, self.redact)
        self.reporter.finish(report, directory.path)
        directory.finish(report)
        write_page(directory.path, report)
        return report


def write_failed(path: Path, rows: Mapping[str, Sequence[Row]], redact: bool = False) -> None:
    """Write the failed rows of all programs into one file, with cause and reason; no file if there are none.

    With `redact` without the reasons, which may quote a prompt.
    """
    failed = [
        {"program": name, **{key: row.get(key) for key in ("id", "user", "failed", "error")}}
        | ({"error": None} if redact else {})
        for name, results in rows.items()
        for row in results
        if row.get("failed")
    ]
    path.unlink(missing_ok=True)
    if failed:
        write_atomic(path, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in failed), private=True)
