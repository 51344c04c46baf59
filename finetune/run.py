"""`finetune`: traces of a teacher, SFT, GRPO, evaluation on unseen users, report. Fills a run directory."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import dspy
from accelerate.utils import broadcast_object_list
from datasets import Dataset

from finetune.card import card, plot_curves
from finetune.config import FinetuneConfig
from finetune.evaluation import evaluation_on_dev
from finetune.grpo import check_options, check_rollouts, check_vllm, train_grpo
from finetune.report import STUDENT, TEACHER, best_on_dev, make_report, measure_program
from finetune.rewards import Rewards
from finetune.rollout.forms import Forms
from finetune.sft import check_mask, train_sft
from finetune.student import Student
from finetune.task_setup import TaskSetup, check_names, without_demos
from finetune.teacher.asking import asking_teacher, calls_of, teacher_traces
from finetune.traces import answers, collect_traces, write_questions
from finetune.training import OnStep, processes, student_identity
from programs.cluster.connecting import check_reachable
from programs.data.fitting import write_task_file
from programs.evaluate.measuring import write_failed
from programs.evaluate.runner import ResultRow
from programs.report_html.page import write_page
from programs.runs.configs import digest
from programs.runs.directory import FAILED, Rows, Run, read_json, write_json
from programs.runs.reporter import Reporter
from programs.tasks.program import R2PConfig
from r2p_dspy import connect, save_program
from r2p_dspy.engines.weights import fingerprint, option_value
from r2p_dspy.prompting.signature import Carrier

_SELF_TEACHING = 0.7  # the temperature of a student that teaches itself; at 0 it would repeat what it was taught
_EARLY = 3  # steps without any reward after which GRPO is of no use
_KEPT = {"retriever", "k", "template", "history", "on_unmet"}  # settings of the teacher that its student has too


@dataclass(frozen=True)
class Work:
    """What the trainings of one run have in common."""

    config: FinetuneConfig
    carrier: Carrier  # what the student reasons in
    setups: Sequence[TaskSetup]
    rewards: Rewards
    directory: Path
    resume: bool  # trainings continue from their checkpoints
    reporter: Reporter


def run_finetune(config: FinetuneConfig, output: Path, resume: bool, reporter: Reporter) -> dict[str, Any]:
    """Train a student, compare it on unseen users with its untrained self and its teacher, and return the report.

    The model is `model/` in the run's directory, its program `program.json`, or with several tasks `program-TASK.json`.
    Under `accelerate launch` every process trains; only the main process asks models, measures, writes and reports.

    Raises:
        ConfigError, DataError, ArtifactError, RunError, RewardError: one line on what is wrong.
    """
    started = time.monotonic()
    is_main = processes().is_main_process
    check_vllm(config.grpo.vllm)
    check_options(config.grpo.options)
    student = Student.load(config.student, lora=bool(config.sft.lora))
    check_mask(config.sft, student)
    check_rollouts(config.grpo, student)
    if config.ray is not None and is_main and not resume:  # a run that goes on may have its traces
        check_reachable(config.ray)
    carrier: Carrier = config.carrier or ("thinking" if student.can_think and config.r2p.reasons else "fields")
    student.thinking = True if carrier == "thinking" else None
    setups = [TaskSetup.of(name, config, carrier, student, reporter) for name in config.tasks]
    check_names(setup.task.name for setup in setups)
    opened = _check_prompts(setups, student, config.tokens, reporter)
    rewards = Rewards({setup.task.name: (setup.task, setup.program) for setup in setups}, opened=opened)
    run = Run(output, _recorded(config, setups, student), resume) if is_main else None
    processes().wait_for_everyone()
    # Other processes continue what the main process has begun.
    work = Work(config, carrier, setups, rewards, output, resume or not is_main, reporter)
    with run or nullcontext():
        return _steps(work, run, started)


def _steps(work: Work, run: Run | None, started: float) -> dict[str, Any]:
    """Traces, trainings and evaluations, each resumed where it stopped; then the report."""
    config, output = work.config, work.directory
    measured: dict[str, dict[str, list[ResultRow]]] = {}

    def measure_student(name: str, model: str) -> None:
        if run is not None:
            lm = _student_lm(model, config, work.carrier)
            measured[name] = measure_program(
                name, work.setups, lm, run, config.num_threads, work.reporter, redact=config.redact
            )
        processes().wait_for_everyone()

    questions, model, trainings = None, config.student, dict[str, Path]()
    if config.runs_sft:
        _on_main(partial(_traces, work, 1))  # before anything is trained or measured: it may find no good answer
    if config.runs_grpo:
        questions = _on_main(lambda: write_questions(work.setups, output / "questions.jsonl"))
    measure_student(STUDENT, config.student)
    for number in range(1, config.rounds + 1) if config.runs_sft else ():
        traces = _on_main(partial(_traces, work, number, model))
        name = _of_round("sft", number)
        model, trainings[f"student:{name}"] = str(_sft(work, name, _read_rows(traces))), output / name
        measure_student(f"student:{name}", model)
    if questions is not None:
        name = "student:sft+grpo" if config.runs_sft else "student:grpo"
        model, trainings[name] = str(_grpo(work, model, _read_rows(questions))), output / "grpo"
        measure_student(name, model)
    if run is None:
        return {}
    with asking_teacher(config, work.setups, output) as (teacher, _):
        measured[TEACHER] = measure_program(
            TEACHER, work.setups, teacher, run, config.num_threads, work.reporter, config.max_failures, config.redact
        )
    report = _finish(work, run, trainings, measured, teacher, started)
    calls_of(config, output).finish()
    return report


def _check_prompts(setups: Sequence[TaskSetup], student: Student, tokens: int, reporter: Reporter) -> bool:
    """Refuse prompts that do not fit, before any work; returns whether the template opens a thought in a prompt."""
    prompts = [student.prompt(setup.rows(example)["prompt"]) for setup in setups for example in setup.data.dev]
    student.check_fits(max(len(ids) for ids, _ in prompts), tokens)
    if shortened := sum(setup.rows.shortened for setup in setups):
        reporter.say(
            f"{shortened} of {len(prompts)} prompts were shortened to fit the student's {student.context} tokens"
        )
    return prompts[0][1]


def _recorded(config: FinetuneConfig, setups: Sequence[TaskSetup], student: Student) -> dict[str, Any]:
    """The run's `config.json`: the options, and digests of the data, the program and the student's weights."""
    return {
        "command": "finetune",
        **config.options,
        "examples": {setup.task.name: setup.data.digest for setup in setups},
        "compiled": digest(config.program),
        "student_weights": student_identity(student.source),
    }


def _on_main(work: Callable[[], Any]) -> Any:
    """Run a function in the main process while the others wait; all get its result."""
    state = processes()
    result = work() if state.is_main_process else None
    if state.num_processes > 1:
        (result,) = broadcast_object_list([result])
    return result


def _read_rows(path: Path) -> Dataset:
    with processes().main_process_first():
        return Dataset.from_json(str(path), cache_dir=str(path.parent / ".cache"))


def _student_lm(model: str, config: FinetuneConfig, carrier: Carrier) -> dspy.LM:
    source = option_value(model.removeprefix("hf:"))
    reasoning: dict[str, Any] = {"reasoning": True} if carrier == "thinking" else {}
    # At temperature 0, trained or not, so that they can be compared.
    return connect(source, temperature=0.0, seed=config.data.seed, cache=False, max_tokens=config.tokens, **reasoning)


def _of_round(name: str, number: int) -> str:
    """The directory of a round's traces, or training."""
    return name if number == 1 else f"{name}-{number}"


def _traces(work: Work, number: int, student: str | None = None) -> Path:
    """The traces of a round: of the teacher, or of the student that the last round trained."""
    config, told = work.config, work.config.traces == "rationalize"
    source: dict[str, Any] = {"model": config.teacher.name, "carrier": work.carrier}
    if told:
        source["traces"] = config.traces
    directory = work.directory / _of_round("traces", number)
    if number == 1 or student is None:
        return teacher_traces(config, work.setups, source, work.directory, directory, work.reporter, told)
    # Without the teacher's demos, which the student was not trained on.
    setups = [replace(setup, teacher=without_demos(setup.teacher)) for setup in work.setups]
    lm = _student_lm(student, config, work.carrier).copy(temperature=_SELF_TEACHING)
    source |= {"model": student_identity(student), "round": number}
    return collect_traces(setups, lm, source, directory, config.num_threads, work.reporter, config.max_failures, told)


def _sft(work: Work, name: str, rows: Dataset) -> Path:
    options: dict[str, Any] = {"thinking": True if work.carrier == "thinking" else None, **_shared(work, name)}
    if work.config.sft.mask_forced:
        options["forms"] = Forms(rows, work.rewards.programs, None)
    return train_sft(work.config.student, rows, work.config.sft, work.directory / name, **options)


def _grpo(work: Work, student: str, rows: Dataset) -> Path:
    path, began, scoring = work.directory / "grpo", time.monotonic(), work.rewards.seconds
    model = train_grpo(student, rows, work.rewards, work.config.grpo, path, **_shared(work, "grpo"))
    if processes().is_main_process and not (path / "seconds.json").exists():
        seconds = {"all": time.monotonic() - began, "rewards": work.rewards.seconds - scoring}
        write_json(path / "seconds.json", {name: round(value, 2) for name, value in seconds.items()})
    return model


def _shared(work: Work, stage: str) -> dict[str, Any]:
    """What both trainings are given; a resumed run may have been stopped before a training began."""
    samples = Rows(work.directory / "samples.jsonl")
    return {
        "resume": work.resume or not (work.directory / stage).exists(),
        "on_step": _progress(work, stage),
        "evaluation": evaluation_on_dev(stage, work.setups, work.rewards, work.config.tokens, samples, work.reporter),
    }


def _progress(work: Work, name: str) -> OnStep:
    advance: Callable[[], None] | None = None
    taken = 0

    def on_step(step: int, steps: int) -> None:
        nonlocal advance, taken
        if advance is None:
            advance = work.reporter.start(name, steps, step - 1, "steps")
        advance()
        taken += 1
        if taken == _EARLY and work.rewards.given and not work.rewards.above_zero:
            held = work.config.grpo.constrain
            advice = (
                "raise --tokens" if held else "give --constrain-rollouts, or train by SFT first without --mask-forced"
            )
            work.reporter.say(
                f"{name}: none of {work.rewards.given} answers got a reward above 0, so nothing is learnt of the task "
                f"(samples.jsonl has answers): {advice}"
            )

    return on_step


def _finish(
    work: Work,
    run: Run,
    trainings: Mapping[str, Path],
    measured: Mapping[str, Mapping[str, Sequence[ResultRow]]],
    lm: dspy.LM,
    started: float,
) -> dict[str, Any]:
    """Keep the best model with its program, card and curves; write the report last."""
    config, output = work.config, work.directory
    histories = {name: read_json(path / "state.json")["log_history"] for name, path in trainings.items()}
    kept = best_on_dev(histories)
    model = output / "model"
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(trainings[kept] / "model", model)
    notes = {"model": "hf:model", "fingerprint": fingerprint(model), "tokens": config.tokens}
    notes |= {"student": config.student, "kept": kept}
    for setup in work.setups:
        file = "program.json" if len(work.setups) == 1 else f"program-{setup.task.name}.json"
        settings = R2PConfig(**setup.config.model_dump(include=_KEPT), carrier=work.carrier).model_dump()
        save_program(setup.program, output / file, task=setup.task.name, notes=notes, settings=settings)
        write_task_file(setup.task, output)
    plot_curves(histories, output / "curves.png")
    last = output / _of_round("traces", config.rounds)
    traces = {setup.task.name: answers(last, setup) for setup in work.setups if config.runs_sft}
    timings = {name: path / "seconds.json" for name, path in trainings.items()}
    report = make_report(
        config,
        work.setups,
        measured,
        histories,
        traces=traces,
        carrier=work.carrier,
        kept=kept,
        lm=lm,
        seconds=time.monotonic() - started,
        timings={name: read_json(path) for name, path in timings.items() if path.exists()},
    )
    (output / "README.md").write_text(card(report), encoding="utf-8")
    by_program = {f"{task}/{name}": rows for name, tasks in measured.items() for task, rows in tasks.items()}
    of_teacher = {f"{task}/traces": rows for task, rows in traces.items()}
    write_failed(output / FAILED, {**of_teacher, **by_program}, config.redact)
    run.finish(report)
    write_page(output, report)
    return report
