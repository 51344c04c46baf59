"""Reinforcement learning with TRL's `GRPOTrainer`, rewarded by the composite score (`rewards.py`)."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset

from finetune.config import GRPOConfig
from finetune.evaluation import EvaluatesStudent, Evaluation
from finetune.rewards import Rewards
from finetune.rollout.constrained import ConstrainedRollouts
from finetune.rollout.corrected import CorrectedRollouts
from finetune.rollout.forms import Forms, grammars_of
from finetune.rollout.in_process import check_batches
from finetune.rollout.served import ServedRollouts
from finetune.student import Student, is_finished
from finetune.training import NaNGuard, OnStep, fit, last_checkpoint, processes, rows_at_once, training_arguments
from programs.tasks.task import unknown
from r2p_dspy.errors import ConfigError

VLLM_MODES = ("colocate", "server")
_RESERVED = {"output_dir", "seed", "report_to", "reward_weights", "use_vllm", "vllm_mode", "use_cpu"}
_OWN_NAMES = {  # TRL's options that have one of the command's: dev and the report must know of them too
    "learning_rate": "--rl-learning-rate",
    "max_steps": "--steps",
    "num_generations": "--generations",
    "max_completion_length": "--tokens",
    "save_steps": "--every",
    "eval_steps": "--every",
}
_UNKNOWN_TO_BATCHES = ("min_p", "repetition_penalty", "generation_kwargs")  # settings of sampling
_OWN_FORMS = ("vllm_structured_outputs_regex",)  # each prompt has a form of its own


class StudentGRPOTrainer(NaNGuard, EvaluatesStudent, trl.GRPOTrainer):
    """TRL's trainer, which stops at a NaN loss and evaluates on dev with `Evaluation`."""


def train_grpo(
    source: str | Path,
    rows: Dataset,
    rewards: Rewards,
    config: GRPOConfig,
    output: Path,
    *,
    resume: bool = False,
    on_step: OnStep | None = None,
    evaluation: Evaluation | None = None,
) -> Path:
    """Train a student by GRPO: of several answers to a prompt, those with higher rewards become likelier.

    Rollouts are the student's own answers: no backtracks, no interventions. With `config.constrain` each follows the
    grammar of its prompt, with `config.correct` each is corrected while it is written; the loss counts the tokens that
    the student chose.

    Args:
        source, output, resume, on_step, evaluation: see `sft.train_sft`.
        rows: `prompt` (messages), `task`, `inputs` and `gold`, from `task_setup.RowBuilder`; tasks may be mixed.
        rewards: scores the answers of all these tasks.
        config: settings of the training.

    Returns:
        The directory of the finished model, as `train_sft` returns it.

    Raises:
        ConfigError, RunError: see `sft.train_sft`.
        RewardError: for a check or metric that failed.
    """
    check_vllm(config.vllm)
    check_options(config.options)
    if not len(rows):
        raise ConfigError("there are no rows to train on")
    student = Student.load(source, lora=bool(config.lora), thinking=rewards.thinking)
    check_rollouts(config, student)
    checkpoint = last_checkpoint(output, "grpo", student, rows, config, resume)
    if is_finished(output / "model"):
        return output / "model"
    prompts = [student.prompt(row["prompt"]) for row in rows]
    student.check_fits(max(len(ids) for ids, _ in prompts), config.tokens)
    # A history may hold text that looks like a control token: it stays text.
    template: dict[str, Any] = {"sanitize_control_tokens": True}
    options = {
        **training_arguments(student, config, output, evaluates=evaluation is not None, begins=checkpoint is None),
        **_batch_sizes(config, student),
        "max_steps": config.steps,
        "num_generations": config.generations,
        "per_device_eval_batch_size": config.generations,  # TRL wants whole groups here too
        "max_completion_length": config.tokens,
        "temperature": config.temperature,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 5,
        "chat_template_kwargs": template if rewards.thinking is None else {**template, "enable_thinking": True},
        "mask_truncated_completions": False,
        **({"use_vllm": True, "vllm_mode": config.vllm} if config.vllm else {}),
    }
    try:
        arguments = trl.GRPOConfig(**{**options, **config.options})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"TRL refuses these options: {' '.join(str(error).split())}") from None
    forms = Forms(rows, rewards.programs, arguments.max_completion_length)
    rollouts: Callable[..., Any] | None = None
    if config.constrain:
        rollouts = (ConstrainedRollouts if config.vllm is None else ServedRollouts)(student, forms)
    elif config.correct:
        rollouts = CorrectedRollouts(student, forms.monitor_of)
    functions = rewards.functions(*dict.fromkeys(rows["task"]), end_tokens=student.end_tokens)
    arguments.reward_weights = [1.0, *[0.0] * (len(functions) - 1)]
    return fit(
        StudentGRPOTrainer,
        student,
        config,
        output,
        checkpoint=checkpoint,
        on_step=on_step,
        evaluation=evaluation,
        memory_advice="lower --generations or --tokens, use --lora, or take a smaller student",
        args=arguments,
        train_dataset=rows,
        reward_funcs=functions,
        rollout_func=rollouts,
    )


def check_vllm(mode: str | None) -> None:
    """Refuse vLLM where it cannot run."""
    if mode is None:
        return
    if mode not in VLLM_MODES:
        raise ConfigError(f"unknown vLLM mode {mode!r}; the modes are {', '.join(VLLM_MODES)}")
    if not torch.cuda.is_available():
        raise ConfigError(f"--vllm {mode} needs a GPU, and none is here: leave it out to generate with transformers")
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(f"--vllm {mode} needs vLLM: pip install '.[serve]'")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that `trl.GRPOConfig` does not have, or that finetune sets itself or has under another name."""
    names = {field.name for field in dataclasses.fields(trl.GRPOConfig)} - _RESERVED
    for name in options:
        if name in _RESERVED:
            raise ConfigError(f"--grpo {name} is set by finetune itself; leave it out")
        if name in _OWN_NAMES:
            raise ConfigError(f"--grpo {name} is {_OWN_NAMES[name]} here; give that")
        if name not in names:
            raise ConfigError(unknown("option of --grpo", name, names))


def check_rollouts(config: GRPOConfig, student: Student) -> None:
    """Refuse constrained and corrected rollouts where they cannot be written."""
    if config.constrain and config.correct:
        raise ConfigError("--constrain-rollouts and --correct-rollouts are two ways to one end: leave one of them out")
    if not config.constrain and not config.correct:
        return
    option = "--constrain-rollouts" if config.constrain else "--correct-rollouts"
    if config.correct and config.vllm is not None:
        raise ConfigError(f"{option} cannot be used with --vllm: answers are corrected in this process; leave one out")
    if config.vllm == "colocate":
        raise ConfigError(
            f"{option} cannot be used with --vllm colocate, where TRL holds all answers to one form: take "
            "--vllm server, or leave one of them out"
        )
    for name in _UNKNOWN_TO_BATCHES if config.vllm is None else _OWN_FORMS:
        if name in config.options:
            raise ConfigError(f"--grpo {name} cannot be used with {option}; leave one of them out")
    if config.constrain:
        grammars_of(student)
    if config.vllm is None:
        check_batches(student, option)


def _batch_sizes(config: GRPOConfig, student: Student) -> dict[str, int]:
    """The answers of a step shared by the devices; TRL wants whole groups in a step."""
    answers, devices = config.prompts * config.generations, processes().num_processes
    if answers % devices:
        raise ConfigError(f"{answers} answers per step cannot be shared by {devices} devices; change --prompts")
    together = rows_at_once(student, answers // devices)
    return {"per_device_train_batch_size": together, "gradient_accumulation_steps": answers // devices // together}
