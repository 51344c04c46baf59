"""What the experiments of the command line share: model, data, a run directory, rows, and the report."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import dspy

from programs import data, judging, report
from programs.first_call import FirstCall
from programs.jsonl_data import is_jsonl, jsonl
from programs.lamp.flaws import cut, one_line
from programs.lamp_data import DataError
from programs.measure import measure
from programs.optimizers import LEAST
from programs.options import Options, digest
from programs.plot import plot
from programs.ready import r2p
from programs.reporter import Reporter
from programs.retrievers import retriever
from programs.runs import Run
from programs.submission import submission
from programs.task_file import task_of
from r2p_dspy import load_program
from r2p_dspy.engines.connect import in_process


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
        # In-process calls are cheaper than bookkeeping of what a cache would hide: calls and tokens.
        self.lm = options.connect(cache=not in_process(options.model))
        self.judge = judging.connected(self.task, options.judge, options.judge_api_base, options.seed)
        # A run that is resumed must go on with the same model, data and program, not only with the same names.
        known = {"lm": self.lm.model, "examples": self.data.digest, "compiled": digest(options.program)}
        known["judge_lm"] = self.judge and self.judge.model
        known["task_file"] = digest(options.task)
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
        wanted = data.Wanted(options.seed, options.limit, compiling, options.skip, options.skip_bad)
        found = (jsonl if is_jsonl(path) or not self.task.lamp else data.lamp)(self.task, path, wanted)
        for name, ids in found.skipped.items():
            few = one_line(", ".join(cut(name, 60) for name in ids[:5]) + (", …" if len(ids) > 5 else ""))
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
        first = FirstCall(partial(self.reporter.call, name))
        # What a cache answers has no tokens and no price.
        with dspy.context(lm=self.lm.copy(cache=False), callbacks=[*dspy.settings.callbacks, first]):
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
