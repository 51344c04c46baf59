"""What finetune uses of other libraries' internals, each with its reason.

`tests/finetune/test_private_apis.py` fails when a library drops one of them. Everything else in `finetune` subclasses
public classes of TRL, transformers and DSPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback


def cpu_computes_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 itself; elsewhere bfloat16 is slower than float32.

    torch has a public test for GPUs (`torch.cuda.is_bf16_supported`), but none for CPUs.
    """
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


@contextmanager
def without_mixed_precision(model: Any) -> Iterator[None]:
    """Let a model run its own forward pass, with keys and values of one type.

    Under mixed precision accelerate puts another on the object, and only has a way to take it off for good.
    """
    mixed = vars(model).pop("forward", None)
    try:
        yield
    finally:
        if mixed is not None:
            model.forward = mixed


def insert_callback_first(trainer: Any, callback: TrainerCallback) -> None:
    """Add a callback that sees logs before all others; `Trainer.add_callback` only appends."""
    trainer.callback_handler.callbacks.insert(0, callback)


def announce_evaluation(trainer: Any, metrics: Mapping[str, float]) -> None:
    """Tell the trainer's callbacks of an evaluation, as `Trainer.evaluate` does at its end.

    An `evaluate` that does not run the trainer's own loop has no public way to do so.
    """
    handler, state = trainer.callback_handler, trainer.state
    trainer.control = handler.on_evaluate(trainer.args, state, trainer.control, metrics)


def prepare_optimizer(trainer: Any) -> None:
    """Create the optimizer and wrap the model, as `Trainer.train` does before its first step.

    DSPy's GRPO asks for one step at a time, and `Trainer.train` runs all of them.
    """
    trainer.create_optimizer()
    trainer.model_wrapped, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)


def set_step_shape(trainer: Any, generations: int, batch: int, parts: int) -> None:
    """Set the shape of a `GRPOTrainer`'s next step; its config fixes one shape for the whole training."""
    trainer.num_generations, trainer.args.per_device_train_batch_size = generations, batch
    trainer.args.steps_per_generation = trainer.args.gradient_accumulation_steps = parts
    trainer.current_gradient_accumulation_steps = parts
    trainer._step = 0  # the first part takes the rollouts, and the others their shares of them


def take_metrics(trainer: Any) -> dict[str, float]:
    """Means of what a `GRPOTrainer` has measured since the last call; it only logs them inside `Trainer.train`."""
    metrics = trainer._metrics["train"]
    means = {name: sum(values) / len(values) for name, values in metrics.items() if values}
    metrics.clear()
    return means
