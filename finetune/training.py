"""What both trainings share: the device's settings, resuming, watching, and errors in one line."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from finetune.evaluation import Evaluation, Examined
from finetune.settings import RL, SFT, rate
from finetune.student import Student
from programs.runs.directory import read_json, write_json
from r2p_dspy.errors import ConfigError, RunError

Tick = Callable[[int, int], None]  # (step, steps) after each; what it raises stops the training


def hush() -> None:
    """Silences what transformers warns of while TRL uses it as it does: nobody can act on that."""
    import warnings

    from transformers.utils import logging

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def arguments(student: Student, settings: SFT | RL, output: Path, *, dev: bool, begins: bool) -> dict[str, Any]:
    """What `transformers.TrainingArguments` gets in either training.

    Args:
        student: whose size decides.
        settings: of the training.
        output: where checkpoints go.
        dev: whether there is something to evaluate on.
        begins: whether it goes on from no checkpoint; then what the student is at first is evaluated too.
    """
    cuda = torch.cuda.is_available()
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(output / "tensorboard")
    chosen: dict[str, Any] = {"save_strategy": "steps", "save_steps": settings.every, "save_total_limit": 2}
    if dev:
        chosen |= {"eval_strategy": "steps", "eval_steps": settings.every, "eval_on_start": begins}
        chosen |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_score", "greater_is_better": True}
    return {
        "output_dir": str(output / "checkpoints"),
        "learning_rate": rate(settings, student.size),
        "max_grad_norm": 1.0,
        "use_cpu": not cuda,
        "bf16": torch.cuda.is_bf16_supported() if cuda else _cpu_has_bf16(),
        "gradient_checkpointing": cuda and student.size > 500_000_000,
        "dataloader_pin_memory": cuda,
        "report_to": "tensorboard" if importlib.util.find_spec("tensorboard") else "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "seed": settings.seed,
        **chosen,
    }


def adapter(settings: SFT | RL) -> Any:
    """What peft is to add to the student, or None."""
    if not settings.lora:
        return None
    from peft import LoraConfig

    return LoraConfig(r=settings.lora, lora_alpha=2 * settings.lora, target_modules="all-linear", task_type="CAUSAL_LM")


def checkpoint(output: Path, made_by: dict[str, Any], resume: bool) -> str | None:
    """The last whole checkpoint to go on from, or None where there is none.

    Args:
        output: the training's directory.
        made_by: what makes the weights: the model's fingerprint, the rows' digest, the settings.
        resume: whether what is there may be gone on from; else it must not be there.

    Raises:
        RunError: for checkpoints of another model, other rows or settings, or some where none should be.
    """
    directory, told = output / "checkpoints", output / "made_by.json"
    now = json.loads(json.dumps(made_by))
    if told.exists():
        if not resume:
            raise RunError(f"{output} holds checkpoints; go on with --resume, or give another --output")
        before = read_json(told)
        if changed := [name for name in {**before, **now} if before.get(name) != now.get(name)]:
            name = changed[0]
            raise RunError(
                f"{output} holds checkpoints made with {name} {before.get(name)!r}, not {now.get(name)!r}; "
                "give what it was begun with, or another --output"
            )
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_json(told, now)
    found = sorted(directory.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]), reverse=True)
    for path in found:
        if (path / "trainer_state.json").exists():  # it is written last
            return str(path)
        shutil.rmtree(path)  # the process was killed while it wrote this one
    return None


def fit(
    kind: type,
    student: Student,
    settings: SFT | RL,
    output: Path,
    *,
    last: str | None,
    tick: Tick | None,
    exam: Evaluation | None,
    knobs: str,
    **how: Any,
) -> Path:
    """Train with a trainer of TRL's, and write what comes of it.

    Args:
        kind: the trainer's class.
        student: what is trained.
        settings: of the training.
        output: the training's directory.
        last: the checkpoint to go on from, or None.
        tick: is told of each step.
        exam: on dev; None trains to the end.
        knobs: what to change where the memory is too small.
        **how: what else the trainer takes.

    Returns:
        The directory of the finished model.
    """
    trainer_class = type(kind.__name__, (NaNGuard, Examined, kind), {})
    callbacks: list[Any] = [ProgressCallback(tick)]
    if exam is not None:
        callbacks.append(EarlyStoppingCallback(settings.patience))
        how["eval_dataset"] = how["train_dataset"].select([0])  # the exam brings its own
    with in_one_line(knobs):
        trainer: Any = trainer_class(
            model=student.model,
            processing_class=student.tokenizer,
            peft_config=adapter(settings),
            callbacks=callbacks,
            **how,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.callback_handler.callbacks.insert(0, DropNoneMetrics())
        trainer.sat = exam and exam.of(student)
        trainer.train(resume_from_checkpoint=last)
    if trainer.accelerator.is_main_process:
        student.save(trainer.accelerator.unwrap_model(trainer.model), output / "model")
        trainer.state.save_to_json(str(output / "state.json"))
    trainer.accelerator.wait_for_everyone()
    del trainer
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return output / "model"


class ProgressCallback(TrainerCallback):
    """Tells how far a training is, and lets its last step be examined too.

    Args:
        tick: is told.
    """

    def __init__(self, tick: Tick | None):
        self.tick = tick

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.tick is not None and state.is_world_process_zero:
            self.tick(state.global_step, state.max_steps)
        if state.global_step >= state.max_steps:  # it may be none of those that are examined anyway
            control.should_save = True
            control.should_evaluate = args.eval_strategy != "no"


class DropNoneMetrics(TrainerCallback):
    """Takes from a log what is no number, before others get it: a task without a row in a step has no mean reward."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        for name in [name for name, value in (logs or {}).items() if value is None]:
            del (logs or {})[name]


class NaNGuard:
    """Of a trainer: it stops at a loss that is no number, before that reaches the weights."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss).all():
            step, pace = self.state.global_step + 1, self.args.learning_rate  # type: ignore[attr-defined]
            raise ConfigError(
                f"the loss of step {step} is not a number; the weights are as of the step before: lower "
                f"--learning-rate (now {pace:g}), and go on from the last checkpoint with --resume or begin anew"
            )
        return loss


@contextmanager
def in_one_line(knobs: str) -> Iterator[None]:
    """Turns the GPU's running out of memory into a line that says which knobs to turn."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"out of memory ({first[:160]}): {knobs}; then go on with --resume") from None


def _cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; where it does not, that is slower than float32."""
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
