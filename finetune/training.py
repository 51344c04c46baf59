"""What SFT and GRPO share: the device's settings, checkpoints, callbacks, and errors in one line."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback

from finetune.config import GRPOConfig, SFTConfig, learning_rate
from finetune.evaluation import Evaluation
from finetune.private_apis import cpu_computes_bf16, insert_callback_first
from finetune.student import Student
from programs.runs.directory import read_json, write_json
from r2p_dspy.engines.weights import fingerprint, is_large, locate
from r2p_dspy.errors import ConfigError, RunError
from r2p_dspy.files import digest

OnStep = Callable[[int, int], None]  # (step, steps) after each step; an exception it raises stops the training


def processes() -> PartialState:
    """The processes that train together, which torchrun or `accelerate launch` started, or this one alone."""
    # The first one who asks decides; by itself accelerate connects processes on GPUs only.
    return PartialState(cpu=not torch.cuda.is_available())


def hush() -> None:
    """Silence warnings about how TRL uses transformers, and how we use TRL; users can do nothing about them."""
    import warnings

    from transformers.utils import logging

    logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    warnings.filterwarnings("ignore", category=UserWarning, message="You are using 'rollout_func'")


def training_arguments(
    student: Student, config: SFTConfig | GRPOConfig, output: Path, *, evaluates: bool, begins: bool
) -> dict[str, Any]:
    """The arguments of `transformers.TrainingArguments` that both trainings set.

    A training that `begins` has no checkpoint; then the untrained student is evaluated too.
    """
    cuda = torch.cuda.is_available()
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(output / "tensorboard")
    saving: dict[str, Any] = {"save_strategy": "steps", "save_steps": config.every, "save_total_limit": 2}
    if evaluates:
        saving |= {"eval_strategy": "steps", "eval_steps": config.every, "eval_on_start": begins}
        saving |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_score", "greater_is_better": True}
    return {
        "output_dir": str(output / "checkpoints"),
        "learning_rate": learning_rate(config, student.size),
        "max_grad_norm": 1.0,
        "use_cpu": not cuda,
        "bf16": torch.cuda.is_bf16_supported() if cuda else cpu_computes_bf16(),
        "gradient_checkpointing": cuda and student.size > 500_000_000,
        "dataloader_pin_memory": cuda,
        "report_to": "tensorboard" if importlib.util.find_spec("tensorboard") else "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "restore_callback_states_from_checkpoint": True,  # evaluations without an improvement are counted on
        "disable_tqdm": True,
        "seed": config.seed,
        **saving,
    }


def lora_adapter(rank: int) -> Any:
    """The peft config of an adapter on all linear layers; None for rank 0."""
    if not rank:
        return None
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def rows_at_once(student: Student, rows: int) -> int:
    """How many of a process's `rows` share a forward pass; gradients are summed over the passes of a step."""
    # A core gains nothing from a second row of a large student, and rows of one batch are padded to the longest.
    return 1 if not torch.cuda.is_available() and is_large(student.model) else rows


def student_identity(source: str) -> str:
    """How runs and checkpoints name a student: by the fingerprint of its weights where they are local, else by name."""
    where = locate(source)
    return fingerprint(where) if Path(where).is_dir() else where


def last_checkpoint(
    output: Path,
    method: str,
    student: Student,
    rows: Iterable[Mapping[str, Any]],
    config: SFTConfig | GRPOConfig,
    resume: bool,
) -> str | None:
    """The last complete checkpoint of this very training, or None; without `resume` there must be none."""
    calls = (json.dumps([row["prompt"], row.get("completion")], sort_keys=True).encode() for row in rows)
    inputs = {"method": method, "student": student_identity(student.source), "rows": digest(calls)}
    now = json.loads(json.dumps({**inputs, **asdict(config)}))
    record = output / "made_by.json"
    if record.exists():
        if not resume:
            raise RunError(f"{output} holds checkpoints; continue with --resume, or give another --output")
        # What an earlier version did not know was as it is by default.
        before = {**json.loads(json.dumps(asdict(type(config)()))), **read_json(record)}
        for name in {**before, **now}:
            if before.get(name) != now.get(name):
                raise RunError(
                    f"{output} holds checkpoints made with {name} {before.get(name)!r}, not {now.get(name)!r}; "
                    "give the first run's options, or another --output"
                )
    else:
        output.mkdir(parents=True, exist_ok=True)
        write_json(record, now)
    paths = (output / "checkpoints").glob("checkpoint-*")
    for path in sorted(paths, key=lambda path: int(path.name.partition("-")[2]), reverse=True):
        if _is_whole(path / "trainer_state.json"):  # transformers writes it last
            return str(path)
        if processes().is_main_process:  # the others leave it out as well
            shutil.rmtree(path)  # the process was killed while it wrote this checkpoint
    return None


def _is_whole(path: Path) -> bool:
    """Whether a JSON file is there and was written to its end."""
    try:
        json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def fit(
    trainer_class: type,
    student: Student,
    config: SFTConfig | GRPOConfig,
    output: Path,
    *,
    checkpoint: str | None,
    on_step: OnStep | None,
    evaluation: Evaluation | None,
    memory_advice: str,
    **trainer_arguments: Any,
) -> Path:
    """Train with one of TRL's trainers, and return the directory of the saved model.

    The trainer has the mixins `NaNGuard` and `EvaluatesStudent`; `memory_advice` helps where memory runs out.
    """
    callbacks: list[TrainerCallback] = [ProgressCallback(on_step)]
    if evaluation is not None:
        callbacks.append(EarlyStoppingCallback(config.patience))
        # The trainer wants a data set; the evaluation has its own questions.
        trainer_arguments["eval_dataset"] = trainer_arguments["train_dataset"].select([0])
    with memory_errors_in_one_line(memory_advice):
        trainer: Any = trainer_class(
            model=student.model,
            processing_class=student.tokenizer,
            peft_config=lora_adapter(config.lora),
            callbacks=callbacks,
            **trainer_arguments,
        )
        trainer.remove_callback(PrinterCallback)
        insert_callback_first(trainer, DropNoneMetrics())
        trainer.evaluate_model = evaluation and evaluation.of(student)
        trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.accelerator.is_main_process:
        trainer.state.save_to_json(str(output / "state.json"))  # before the model, which says that training is done
        student.save(trainer.accelerator.unwrap_model(trainer.model), output / "model")
    trainer.accelerator.wait_for_everyone()
    del trainer
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return output / "model"


class ProgressCallback(TrainerCallback):
    """Reports each step, and has the last one saved and evaluated."""

    def __init__(self, on_step: OnStep | None):
        self.on_step = on_step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.on_step is not None and state.is_world_process_zero:
            self.on_step(state.global_step, state.max_steps)
        if state.global_step >= state.max_steps:  # the interval may not fall on the last step
            control.should_save = True
            control.should_evaluate = args.eval_strategy != "no"


class DropNoneMetrics(TrainerCallback):
    """Removes None values from a log before loggers see them: a task without a row in a step has no mean reward."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        for name in [name for name, value in (logs or {}).items() if value is None]:
            del (logs or {})[name]


class NaNGuard:
    """Mixin for a trainer: stops at a loss that is not a number, before the loss reaches the weights."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The trainer's step. Raises ConfigError for a loss that is not finite."""
        loss = super().training_step(*args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss).all():
            step, rate = self.state.global_step + 1, self.args.learning_rate  # type: ignore[attr-defined]
            raise ConfigError(
                f"the loss of step {step} is not a number; the weights of the step before are kept: lower "
                f"--learning-rate (now {rate:g}), and continue from the last checkpoint with --resume, or start again"
            )
        return loss


@contextmanager
def memory_errors_in_one_line(advice: str) -> Iterator[None]:
    """Turn an out-of-memory error of the GPU into a ConfigError with advice."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"out of memory ({first[:160]}): {advice}; then continue with --resume") from None
