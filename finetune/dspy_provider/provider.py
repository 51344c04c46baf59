"""DSPy's way to train a model of this process: an LM for `BootstrapFinetune`, `GRPO` and `BetterTogether`."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dspy
from dspy.clients.provider import Provider
from dspy.clients.utils_finetune import TrainDataFormat

from finetune.dspy_provider.grpo_job import GRPOJob
from finetune.dspy_provider.jobs import SFTJob
from finetune.dspy_provider.rows import Row, normalize_exported_row
from finetune.requirements import check_installed
from finetune.settings import SFT
from r2p_dspy.dspy_internals import async_engine
from r2p_dspy.engines.connect import in_process
from r2p_dspy.engines.lm import LocalLM
from r2p_dspy.errors import ConfigError
from r2p_dspy.template import TEMPLATE, Template


class TrainableLM(LocalLM):
    """An in-process LM that DSPy's optimizers can train; `trainable` makes it.

    A copy with another `model` of this process (`hf:DIR`) runs that model.
    """

    rollouts: Iterator[int] | None = None  # while it is trained by reward: every call is another sample

    def __call__(self, prompt=None, *, messages=None, **kwargs):
        return super().__call__(prompt, messages=messages, **self._sampled(kwargs))

    async def acall(self, prompt=None, *, messages=None, **kwargs):
        return await super().acall(prompt, messages=messages, **self._sampled(kwargs))

    def copy(self, **kwargs: Any) -> TrainableLM:
        model = kwargs.get("model")
        if isinstance(model, str) and in_process(model):
            kwargs |= _running(model, self.engine)
        return super().copy(**kwargs)

    def become(self, model: str) -> None:
        """Run another in-process model from now on, as DSPy's GRPO wants it: in place."""
        kept = {"history": self.history, "callbacks": self.callbacks}
        self.__dict__.update(vars(self.copy(model=model)) | kept)

    def _sampled(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        # DSPy's GRPO asks the same again for each rollout, and an in-process engine would answer the same again.
        return kwargs if self.rollouts is None else {**kwargs, "rollout_id": next(self.rollouts)}


class TRLProvider(Provider):
    """Trains in-process models with TRL, on this machine: `lm.finetune` by `SFTTrainer`, DSPy's GRPO by TRL's.

    One training runs at a time. `jobs` holds all that were started, the latest last, each with `status()` and
    `cancel()`.

    Args:
        directory: where trainings and their models go, in `sft-1`, `grpo-2` and so on.
        thinks: the model has thoughts of its own.
        template: the steps of the programs that reason in them.

    `train_kwargs` of `lm.finetune` and `BootstrapFinetune` are those of `finetune.settings.SFT`; of `GRPO`, `lora` and
    what `trl.GRPOConfig` takes.
    """

    def __init__(self, directory: str | Path, *, thinks: bool, template: Template = TEMPLATE):
        super().__init__()
        self.finetunable = self.reinforceable = True
        self.directory = Path(directory)
        self.mended = partial(
            normalize_exported_row, thinks=thinks, template=template
        )  # a row of DSPy's as the call that it stands for
        self.jobs: list[SFTJob | GRPOJob] = []
        self.training = threading.Lock()
        self.TrainingJob, self.ReinforceJob = partial(self._job, SFTJob), partial(self._job, GRPOJob)

    def finetune(  # type: ignore[override]
        self,
        job: SFTJob,
        model: str,
        train_data: Sequence[Mapping[str, Any]],
        train_data_format: TrainDataFormat | str | None,
        train_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """Train on DSPy's rows, with reasoning as think tokens where the model has them.

        Returns:
            The trained model as `connect` takes it; the LM's `copy` runs it.

        Raises:
            ValueError: one line: no rows, rows of another format, or what `train_sft` refuses.
            CancelledError: the job was cancelled.
        """
        if train_data_format not in (None, TrainDataFormat.CHAT):
            raise ConfigError(f"only rows of chat can be trained on, not the format {train_data_format}")
        settings = _settings(train_kwargs or {})
        rows = [self._row(row) for row in train_data]
        if not rows:
            raise ConfigError("there is nothing to train on: no run of the program passed the metric")
        with job.turn(self.training):
            from finetune.sft import train_sft

            thinks = True if all(row.thinks for row in rows) else None
            calls = [{"prompt": row.prompt, "completion": row.answer} for row in rows]
            made = train_sft(model, calls, settings, self.fresh("sft"), tick=job.tick, thinks=thinks)
        return f"hf:{made}"

    def fresh(self, name: str) -> Path:
        """A new directory of this name."""
        number = 1 + sum(1 for _ in self.directory.glob("*-*")) if self.directory.exists() else 1
        while True:
            try:
                (path := self.directory / f"{name}-{number}").mkdir(parents=True)
                return path
            except FileExistsError:
                number += 1

    def _row(self, row: Mapping[str, Any]) -> Row:
        messages = row.get("messages") or []
        if len(messages) < 2 or messages[-1]["role"] != "assistant":
            raise ConfigError('a row to train on is {"messages": [..., {"role": "assistant", "content": ...}]}')
        return self.mended(messages[:-1], messages[-1]["content"])

    def _job(self, kind: type, **kwargs: Any) -> Any:
        self.jobs.append(job := kind(**kwargs))
        return job

    def __deepcopy__(self, memo: dict) -> TRLProvider:
        return self  # optimizers copy programs and their LMs; the machine is one


def trainable(lm: dspy.LM, directory: str | Path, template: Template = TEMPLATE) -> TrainableLM:
    """An LM as the given one, which DSPy can train.

    Args:
        lm: of a model in this process, as `r2p_dspy.connect` makes it.
        directory: where trainings and their models go; what is there stays.
        template: the steps of the programs that reason in native thinking (`carrier="thinking"`).

    Returns:
        An LM on the same engine, with a `TRLProvider`. The given one stays as it is.

    Raises:
        ValueError: one line: the model is served, or what training needs is not installed.

    Example:
        >>> import r2p_dspy
        >>> trainable(r2p_dspy.connect("openai/gpt-4o-mini"), "runs/trained")
        Traceback (most recent call last):
        ValueError: model 'openai/gpt-4o-mini' is served; to train one, connect to pocket or hf:DIR_OR_NAME
    """
    engine = lm.engine
    source = getattr(engine, "source", None)
    if source is None:
        raise ConfigError(f"model {lm.model!r} is served; to train one, connect to pocket or hf:DIR_OR_NAME")
    check_installed()
    made = TrainableLM(
        lm.model,
        model_type=lm.model_type,
        cache=lm.cache,
        callbacks=list(lm.callbacks or []),
        num_retries=lm.num_retries,
        provider=TRLProvider(directory, thinks=engine.supports_reasoning, template=template),
        finetuning_model=source if source == "pocket" else f"hf:{source}",
        engine=engine,
        async_engine=async_engine(lm),
    )
    made.kwargs = dict(lm.kwargs)
    return made


def _running(model: str, like: Any) -> dict[str, Any]:
    """What a `dspy.LM` needs to run an in-process model, with the options of an engine."""
    from r2p_dspy.engines import AsyncTransformersEngine, TransformersEngine

    options = {name: value for name, value in like.dump_state().items() if name not in ("source", "fingerprint")}
    engine = TransformersEngine.shared(model.removeprefix("hf:"), **options)
    return {
        "model": engine.model_name,
        "engine": engine,
        "async_engine": AsyncTransformersEngine(engine),
        "finetuning_model": model,
    }


def _settings(given: Mapping[str, Any]) -> SFT:
    names = [field.name for field in dataclasses.fields(SFT)]
    if unknown := sorted(given.keys() - {*names}):
        raise ConfigError(f"train_kwargs: there is no {', '.join(unknown)}; there are {', '.join(names)}")
    return SFT(**given)
