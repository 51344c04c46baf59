"""`finetune`: traces of a teacher, SFT, GRPO, and the report on unseen users. Fills a run directory."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import dspy
from accelerate import PartialState
from datasets import Dataset

from finetune import settings
from finetune.config import Options
from finetune.curves import plot_curves
from finetune.evaluation import Evaluation
from finetune.grpo import check_options, check_vllm, train_grpo
from finetune.report import card, report
from finetune.rewards import Rewards
from finetune.rows import Asking
from finetune.sft import known, train_sft
from finetune.student import Student
from finetune.task_setup import TaskSetup
from finetune.traces import ask_teacher, asked_file, check_source, source, write_traces
from programs.evaluate.runner import ResultRow, measure
from programs.runs.configs import ModelConfig, digest
from programs.runs.directory import Rows, Run, write_json
from programs.runs.reporter import Reporter
from r2p_dspy import R2P, connect, save_program
from r2p_dspy.engines.connect import in_process
from r2p_dspy.engines.weights import fingerprint
from r2p_dspy.files import atomic_path
from r2p_dspy.prompting.signature import Carrier

_ONE_CALL = {"candidates": 1, "reconcile": "auto", "adaptive": False}
_SAMPLES = 3  # answers of each examination that are kept to be read


def run_finetune(options: Options, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Train a student, and compare it on unseen users with what it was, and with its teacher.

    Under `accelerate launch` every process trains; the first one alone asks, measures and writes.

    Args:
        options: what was asked for.
        output: the run's directory.
        resume: whether to go on with a run that is there.
        reporter: is told of progress.

    Returns:
        The report; the trained model is `model/` in the run's directory, and its program `program.json`, or with
        several tasks `program-TASK.json`.

    Raises:
        ValueError: (RunError, DataError, ArtifactError, RewardError) one line on what is wrong.
    """
    finetuning = Finetuning(options, output, resume, reporter)
    with finetuning.run or nullcontext():
        return finetuning()


class Finetuning:
    """One run of `finetune`; arguments as of `run_finetune`."""

    def __init__(self, options: Options, output: Path, resume: bool, reporter: Reporter):
        self.options, self.reporter, self.path = options, reporter, output
        self.started = time.monotonic()
        self.state = PartialState()
        check_vllm(options.vllm)
        check_options(options.grpo)
        self.student = Student.load(options.student, lora=bool(options.lora))
        self.carrier: Carrier = options.carrier or ("thinking" if self.student.can_think else "fields")
        self.student.thinking = True if self.carrier == "thinking" else None
        self.courses = [TaskSetup.of(name, options, self.carrier, reporter) for name in options.tasks]
        self.asking = {c.task.name: Asking(c.program, c.task, self.student, options.tokens) for c in self.courses}
        opened = self._try_prompts()
        programs = {course.task.name: (course.task, course.program) for course in self.courses}
        self.rewards = Rewards(programs, opened=opened)
        self.resume = resume or not self.state.is_main_process  # the others find what the first one has begun
        self.run: Any = Run(output, self._config(), resume) if self.state.is_main_process else None
        self.state.wait_for_everyone()
        self.rows: dict[str, dict[str, list[ResultRow]]] = {course.task.name: {} for course in self.courses}

    def __call__(self) -> dict[str, Any]:
        traces = self._first(self._traces) if self.options.sft else None
        questions = self._first(self._questions) if self.options.rl else None
        self._first(lambda: self._measure("student", self.options.student))
        at, name, stages = self.options.student, "student:", {}
        if traces is not None:
            name += "sft"
            at = str(self._sft(at, self._read(traces)))
            stages[name] = self.path / "sft"
            self._first(lambda: self._measure(name, at))
        if questions is not None:
            name += "+grpo" if traces is not None else "grpo"
            at = str(self._grpo(at, self._read(questions)))
            stages[name] = self.path / "grpo"
            self._first(lambda: self._measure(name, at))
        if not self.state.is_main_process:
            return {}
        self._teacher()
        return self._finish(stages)

    def _try_prompts(self) -> bool:
        """Whether the student's template opens a thought in a prompt; refuses prompts that do not fit, before work."""
        asked = [(self.asking[c.task.name], example) for c in self.courses for example in c.data.dev]
        prompts = [self.student.prompt(asking(example)["prompt"]) for asking, example in asked]
        self.student.check_fits(max(len(ids) for ids, _ in prompts), self.options.tokens)
        if cut := sum(asking.cut for asking in self.asking.values()):
            self.reporter.say(
                f"{cut} of {len(asked)} prompts were shortened to fit the student's {self.student.context} tokens"
            )
        return prompts[0][1]

    def _config(self) -> dict[str, Any]:
        asked = {name: value for name, value in asdict(self.options).items() if name != "num_threads"}
        examples = {course.task.name: course.data.digest for course in self.courses}
        return {
            "command": "finetune",
            **asked,
            "examples": examples,
            "compiled": digest(self.options.program),
            "weights": known(self.student.source),
        }

    def _first(self, work: Callable[[], Any]) -> Any:
        """What the first process makes, while the others wait; they find it in the run's directory."""
        made = work() if self.state.is_main_process else None
        if self.state.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            (made,) = broadcast_object_list([made])
        return made

    @cached_property
    def lm(self) -> dspy.LM:
        """The teacher's model."""
        options = self.options
        model = ModelConfig(options.model, options.api_base, seed=options.seed)
        return model.connect(cache=not in_process(options.model))

    def _traces(self) -> Path:
        directory = self.path / "traces"
        told = {
            "model": self.options.model,
            "carrier": self.carrier,
            "tasks": {c.task.name: source(c) for c in self.courses},
        }
        check_source(directory, told)
        for course in self.courses:
            path, examples = asked_file(directory, course), course.data.train
            done = sum(1 for _ in Rows(path))
            tick = self.reporter.start(f"traces {course.task.name}", len(examples), done)
            ask_teacher(course, self.asking[course.task.name], self.lm, path, self.options.num_threads, tick)
        return write_traces(self.courses, self.lm, directory, told)

    def _questions(self) -> Path:
        """What is asked in RL: every training user's question."""
        path = self.path / "questions.jsonl"
        if not path.exists():
            with atomic_path(path) as part:
                for course in self.courses:
                    for example in course.data.train:
                        Rows(part).append(self.asking[course.task.name](example))
        return path

    def _read(self, path: Path) -> Dataset:
        with self.state.main_process_first():
            return Dataset.from_json(str(path), cache_dir=str(path.parent / ".cache"))

    def _exam(self, stage: str) -> Evaluation:
        rows = [self.asking[c.task.name](example) for c in self.courses for example in c.data.dev]
        samples = Rows(self.path / "samples.jsonl")
        seen = {(row["stage"], row["step"]) for row in samples}

        def tell(
            step: int, rows: Sequence[Mapping[str, Any]], texts: Sequence[str], figures: Mapping[str, float]
        ) -> None:
            said = ", ".join(f"{key} {value:.3f}" for key, value in figures.items() if key != "looping")
            self.reporter.say(f"{stage}, step {step}, dev: {said}")
            if (stage, step) in seen:
                return
            apart = max(1, len(rows) // _SAMPLES)
            for row, text in list(zip(rows, texts))[::apart][:_SAMPLES]:
                score = self.rewards.judged(row["task"], row["inputs"], row["gold"], text)[1]
                about = {"stage": stage, "step": step, "task": row["task"], "id": row["id"]}
                samples.append({**about, "score": float(score), "feedback": score.feedback, "answer": text})

        return Evaluation(rows, self.rewards.grade, self.options.tokens, tell)

    def _sft(self, student: str, rows: Dataset) -> Path:
        o = self.options
        how = settings.SFT(o.epochs, o.batch, rate=o.learning_rate, every=o.every, patience=o.patience)
        how = replace(how, lora=o.lora, seed=o.seed)
        return train_sft(
            student,
            rows,
            how,
            self.path / "sft",
            resume=self._begun("sft"),
            tick=self._steps("sft"),
            exam=self._exam("sft"),
            thinks=self.student.thinking,
        )

    def _grpo(self, student: str, rows: Dataset) -> Path:
        o = self.options
        how = settings.RL(o.steps, o.prompts, o.generations, o.tokens, o.rl_learning_rate, every=o.every)
        how = replace(how, patience=o.patience, lora=o.lora, seed=o.seed, vllm=o.vllm, options=dict(o.grpo))
        path, resume, began = self.path / "grpo", self._begun("grpo"), time.monotonic()
        before = self.rewards.seconds
        made = train_grpo(
            student, rows, self.rewards, how, path, resume=resume, tick=self._steps("grpo"), exam=self._exam("grpo")
        )
        if self.state.is_main_process and not (path / "seconds.json").exists():
            spent = {"all": time.monotonic() - began, "rewards": self.rewards.seconds - before}
            write_json(path / "seconds.json", {name: round(value, 2) for name, value in spent.items()})
        return made

    def _begun(self, stage: str) -> bool:
        """Whether a training goes on: a run that is resumed may have been stopped before it began."""
        return self.resume or not (self.path / stage).exists()

    def _steps(self, name: str) -> Callable[[int, int], None]:
        ticks: list[Callable[[], None]] = []

        def tick(step: int, steps: int) -> None:
            if not ticks:
                ticks.append(self.reporter.start(name, steps, step - 1, "steps"))
            ticks[0]()

        return tick

    def _measure(self, name: str, directory: str) -> None:
        """A student on the reported users: one call each, and nobody who corrects it."""
        thinks: Any = {"reasoning": True} if self.carrier == "thinking" else {}
        source = directory if directory == "pocket" else f"hf:{directory.removeprefix('hf:')}"
        lm = connect(source, seed=self.options.seed, cache=False, max_tokens=self.options.tokens, **thinks)
        for course in self.courses:
            self._rows(course, name, course.program, lm)

    def _teacher(self) -> None:
        for course in self.courses:
            self._rows(course, "teacher", course.teacher, self.lm.copy(cache=False))

    def _rows(self, course: TaskSetup, name: str, program: R2P, lm: dspy.LM) -> None:
        task, examples = course.task, course.data.test
        rows = self.run.rows(f"{task.name}/{name}")
        tick = self.reporter.start(f"{task.name} {name}", len(examples), len({row["id"] for row in rows}))
        with dspy.context(lm=lm):
            self.rows[task.name][name] = measure(program, examples, task, rows, self.options.num_threads, tick)

    def _finish(self, stages: Mapping[str, Path]) -> dict[str, Any]:
        """The model that is kept, its program, its card, the curves and, last, the report."""
        histories = {
            name: json.loads((path / "state.json").read_text())["log_history"] for name, path in stages.items()
        }
        best = {
            name: max((e["eval_score"] for e in log if "eval_score" in e), default=0.0)
            for name, log in histories.items()
        }
        kept = max(best, key=lambda name: (best[name], len(name)))  # of equals the later one
        model = self.path / "model"
        shutil.rmtree(model, ignore_errors=True)
        shutil.copytree(stages[kept] / "model", model)
        notes = {"model": "hf:model", "fingerprint": fingerprint(model), "tokens": self.options.tokens}
        notes |= {"student": self.options.student, "kept": kept}
        for course in self.courses:
            name = "program.json" if len(self.courses) == 1 else f"program-{course.task.name}.json"
            how = course.settings.model_copy(update={**_ONE_CALL, "carrier": self.carrier}).model_dump()
            save_program(course.program, self.path / name, task=course.task.name, notes=notes, settings=how)
        plot_curves(histories, self.path / "curves.png")
        timed = {name: path / "seconds.json" for name, path in stages.items()}
        done = report(
            self.options,
            self.courses,
            self.rows,
            histories,
            carrier=self.carrier,
            kept=kept,
            lm=self.lm,
            seconds=time.monotonic() - self.started,
            timed={name: json.loads(path.read_text()) for name, path in timed.items() if path.exists()},
        )
        (self.path / "README.md").write_text(card(done), encoding="utf-8")
        self.run.finish(done)
        return done
