"""DSPy's provider for in-process models, for `BootstrapFinetune`, `GRPO` and `BetterTogether`."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dspy
from dspy.clients.provider import Provider
from dspy.clients.utils_finetune import TrainDataFormat

from finetune.config import SFTConfig, check_installed
from finetune.dspy_provider.grpo_job import GRPOJob
from finetune.dspy_provider.jobs import SFTJob
from finetune.dspy_provider.lm import TrainableLM
from finetune.dspy_provider.rows import TrainingCall, normalize_exported_row
from r2p_dspy.dspy_internals import async_engine
from r2p_dspy.engines.weights import option_value
from r2p_dspy.errors import ConfigError
from r2p_dspy.template import TEMPLATE, Template


class TRLProvider(Provider):
    """Trains in-process models with TRL on this machine: `lm.finetune` by `SFTTrainer`, DSPy's GRPO by TRL's.

    One training runs at a time. `jobs` holds all jobs, the latest last, each with `status()` and `cancel()`.

    Args:
        directory: where trainings and their models go, in `sft-1`, `grpo-2` and so on.
        thinks: whether the model has native thinking.
        template: the stages of programs that reason in native thinking.

    `train_kwargs` of `lm.finetune` and `BootstrapFinetune` are the fields of `finetune.config.SFTConfig`; those of
    `GRPO` are `lora` and the options of `trl.GRPOConfig`.
    """

    def __init__(self, directory: str | Path, *, thinks: bool, template: Template = TEMPLATE):
        super().__init__()
        self.finetunable = self.reinforceable = True
        self.directory = Path(directory)
        self.normalize = partial(normalize_exported_row, thinks=thinks, template=template)
        self.jobs: list[SFTJob | GRPOJob] = []
        self.training = threading.Lock()  # held by the training that runs
        # DSPy only calls these; its annotations want classes.
        self.TrainingJob: Any = partial(self._job, SFTJob)
        self.ReinforceJob: Any = partial(self._job, GRPOJob)

    def finetune(  # type: ignore[override]
        self,
        job: SFTJob,
        model: str,
        train_data: Sequence[Mapping[str, Any]],
        train_data_format: TrainDataFormat | str | None,
        train_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Train on DSPy's rows, and return the model's name for `connect`; the LM's `copy` runs it.

        Reasoning becomes think tokens where the model has native thinking.

        Raises:
            ConfigError: no rows, rows of another format, or what `train_sft` refuses.
            CancelledError: the job was cancelled.
        """
        if train_data_format not in (None, TrainDataFormat.CHAT):
            raise ConfigError(f"training needs rows in the format chat, not {train_data_format}")
        config = _sft_config(train_kwargs or {})
        calls = [self._call(row) for row in train_data]
        if not calls:
            raise ConfigError("there is nothing to train on: no run of the program passed the metric")
        with job.turn(self.training):
            from finetune.sft import train_sft

            thinking = True if all(call.thinks for call in calls) else None
            rows = [{"prompt": call.prompt, "completion": call.answer} for call in calls]
            trained = train_sft(model, rows, config, self.new_directory("sft"), on_step=job.on_step, thinking=thinking)
        return f"hf:{trained}"

    def new_directory(self, name: str) -> Path:
        """Make a new directory with this name and the next free number."""
        number = 1 + sum(1 for _ in self.directory.glob("*-*")) if self.directory.exists() else 1
        while True:
            try:
                (path := self.directory / f"{name}-{number}").mkdir(parents=True)
                return path
            except FileExistsError:
                number += 1

    def _call(self, row: Mapping[str, Any]) -> TrainingCall:
        messages = row.get("messages") or []
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise ConfigError('a training row is {"messages": [..., {"role": "assistant", "content": ...}]}')
        return self.normalize(messages[:-1], messages[-1]["content"])

    def _job(self, kind: type, **kwargs: Any) -> Any:
        self.jobs.append(job := kind(**kwargs))
        return job

    def __deepcopy__(self, memo: dict) -> TRLProvider:
        return self  # optimizers copy programs and their LMs, and all copies train on one machine


def trainable(lm: dspy.LM, directory: str | Path, template: Template = TEMPLATE) -> TrainableLM:
    """Make an in-process LM that DSPy can train.

    Args:
        lm: of an in-process model, from `r2p_dspy.connect`; it stays as it is.
        directory: where trainings and their models go; existing files stay.
        template: the stages of programs that reason in native thinking (`carrier="thinking"`).

    Returns:
        An LM on the same engine, with a `TRLProvider`.

    Raises:
        ConfigError: the model is served, or packages for training are missing.

    Examples:
        >>> import r2p_dspy
        >>> trainable(r2p_dspy.connect("openai/gpt-4o-mini"), "runs/trained")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        r2p_dspy.errors.ConfigError: model 'openai/gpt-4o-mini' is served; ...
    """
    engine = lm.engine
    source = getattr(engine, "source", None)
    if source is None:
        raise ConfigError(f"model {lm.model!r} is served; to train one, connect to pocket or hf:DIR_OR_NAME")
    check_installed()
    trained = TrainableLM(
        lm.model,
        model_type=lm.model_type,
        cache=lm.cache,
        callbacks=list(lm.callbacks or []),
        num_retries=lm.num_retries,
        provider=TRLProvider(directory, thinks=engine.supports_reasoning, template=template),
        finetuning_model=option_value(source),
        engine=engine,
        async_engine=async_engine(lm),
    )
    trained.kwargs = dict(lm.kwargs)
    return trained


def _sft_config(train_kwargs: Mapping[str, Any]) -> SFTConfig:
    names = [field.name for field in dataclasses.fields(SFTConfig)]
    if unknown := sorted(train_kwargs.keys() - {*names}):
        raise ConfigError(f"train_kwargs: there is no {', '.join(unknown)}; there are {', '.join(names)}")
    return SFTConfig(**train_kwargs)
