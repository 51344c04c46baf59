"""Reinforcement learning with TRL's `GRPOTrainer`, under the library's composite score."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.settings import RL
from r2p_dspy.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset

    from finetune.evaluation import Evaluation
    from finetune.rewards import Rewards
    from finetune.training import Tick

MODES = ("colocate", "server")
_OURS = {"output_dir", "seed", "report_to", "reward_weights", "use_vllm", "vllm_mode", "use_cpu"}


def train_grpo(
    student: str | Path,
    rows: Dataset,
    rewards: Rewards,
    settings: RL,
    output: Path,
    *,
    resume: bool = False,
    tick: Tick | None = None,
    exam: Evaluation | None = None,
) -> Path:
    """Train a student by GRPO: of several answers to a prompt those that score higher become likelier.

    Nothing backtracks or intervenes in a rollout.

    Args:
        student: a model's directory, a hub name, or `pocket`.
        rows: `prompt` (messages), `task`, `inputs` and `gold`, as of `rows.Asking`; tasks may be mixed.
        rewards: of all these tasks.
        settings: of the training.
        output: directory of checkpoints, of TensorBoard's log, and of the finished model.
        resume, tick, exam: as of `train_sft`.

    Returns:
        The directory of the finished model, as of `train_sft`.

    Raises:
        ValueError: (RunError, RewardError) one line on what is wrong with the student, the rows, an option, a reward,
            or on too little memory.
    """
    from trl import GRPOConfig, GRPOTrainer

    from finetune.sft import known, rows_digest
    from finetune.student import Student, finished
    from finetune.training import arguments, checkpoint, fit

    check_vllm(settings.vllm)
    check_options(settings.options)
    if not len(rows):
        raise ConfigError("there are no rows to train on")
    taught = Student.load(student, lora=bool(settings.lora), thinks=rewards.thinks)
    made_by = {"method": "grpo", "student": known(taught.source), "rows": rows_digest(rows), **asdict(settings)}
    last = checkpoint(output, made_by, resume)
    if finished(output / "model"):
        return output / "model"
    prompts = [taught.prompt(row["prompt"]) for row in rows]
    taught.check_fits(max(len(ids) for ids, _ in prompts), settings.tokens)
    template: dict[str, Any] = {"sanitize_control_tokens": True}  # what looks like a control token in a history is text
    config = _config(
        GRPOConfig,
        {
            **arguments(taught, settings, output, dev=exam is not None, begins=last is None),
            **_batches(settings),
            "max_steps": settings.steps,
            "num_generations": settings.generations,
            "max_completion_length": settings.tokens,
            "temperature": settings.temperature,
            "lr_scheduler_type": "constant_with_warmup",
            "warmup_steps": 5,
            "chat_template_kwargs": template if rewards.thinks is None else {**template, "enable_thinking": True},
            "mask_truncated_completions": False,
            **({"use_vllm": True, "vllm_mode": settings.vllm} if settings.vllm else {}),
        },
        settings.options,
    )
    functions = rewards.functions(*dict.fromkeys(rows["task"]), ends=taught.ends)
    config.reward_weights = [1.0, *[0.0] * (len(functions) - 1)]
    return fit(
        GRPOTrainer,
        taught,
        settings,
        output,
        last=last,
        tick=tick,
        exam=exam,
        knobs="lower --grpo num_generations or max_completion_length, take --lora, or a smaller student",
        args=config,
        train_dataset=rows,
        reward_funcs=functions,
    )


def check_vllm(mode: str | None) -> None:
    """Refuse vLLM where it cannot run.

    Raises:
        ValueError: for an unknown mode, no GPU, or no vLLM.
    """
    if mode is None:
        return
    import torch

    if mode not in MODES:
        raise ConfigError(f"unknown vLLM mode {mode!r}; the modes are {', '.join(MODES)}")
    if not torch.cuda.is_available():
        raise ConfigError(f"--vllm {mode} needs a GPU, and none is here: leave it out, and transformers generates")
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(f"--vllm {mode} needs vLLM: pip install '.[serve]'")


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what `trl.GRPOConfig` does not take.

    Raises:
        ValueError: with the nearest option that there is.
    """
    from trl import GRPOConfig

    from programs.tasks.task import unknown

    names = {field.name for field in dataclasses.fields(GRPOConfig)} - _OURS
    for name in options:
        if name in _OURS:
            raise ConfigError(f"--grpo {name} is set by finetune itself; leave it out")
        if name not in names:
            raise ConfigError(unknown("option of --grpo", name, names))


def read_options(given: Iterable[str]) -> dict[str, Any]:
    """`KEY=VALUE` texts as options; a value is JSON, or else a text.

    Raises:
        ValueError: for a text without `=`.

    Example:
        >>> read_options(["beta=0.04", "loss_type=dr_grpo"])
        {'beta': 0.04, 'loss_type': 'dr_grpo'}
    """
    options: dict[str, Any] = {}
    for text in given:
        name, found, value = text.partition("=")
        if not found or not name.strip():
            raise ConfigError(f"--grpo takes KEY=VALUE, such as beta=0.04, not {text!r}")
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = value
    return options


def _batches(settings: RL) -> dict[str, int]:
    """A step's answers over the devices; TRL wants whole groups in a step."""
    from accelerate import PartialState

    answers, devices = settings.prompts * settings.generations, PartialState().num_processes
    if answers % devices:
        raise ConfigError(f"{answers} answers of a step cannot be shared by {devices} devices; change --prompts")
    return {"per_device_train_batch_size": answers // devices, "gradient_accumulation_steps": 1}


def _config(kind: Any, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Any:
    try:
        return kind(**{**ours, **theirs})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"TRL refuses these options: {' '.join(str(error).split())}") from None
