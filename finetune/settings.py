"""What can be set of the two trainings, with defaults for a small student on a CPU and for a large one on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SMALL = 50_000_000  # parameters


@dataclass(frozen=True)
class SFT:
    """Settings of supervised fine-tuning.

    Args:
        epochs: passes over the rows.
        batch: rows of a step, on each device.
        accumulate: batches whose gradients are summed to a step.
        rate: the learning rate; None takes 1e-3 for a student of less than 50 million parameters, else 1e-5; ten times
            as much with LoRA.
        warmup: steps in which the rate rises.
        every: steps between checkpoints, and between evaluations on dev.
        patience: evaluations without a better one, after which training stops.
        lora: train an adapter of this rank instead of the weights; 0 trains the weights.
        seed: of everything drawn.
    """

    epochs: float = 2.0
    batch: int = 32
    accumulate: int = 1
    rate: float | None = None
    warmup: int = 10
    every: int = 25
    patience: int = 4
    lora: int = 0
    seed: int = 0


@dataclass(frozen=True)
class RL:
    """Settings of reinforcement learning by GRPO.

    Args:
        steps: of the optimizer.
        prompts: of a step, over all devices; each is answered `generations` times.
        generations: answers that are compared with one another.
        tokens: of an answer at most.
        rate: the learning rate; None takes 2e-4 for a student of less than 50 million parameters, else 1e-6; ten times
            as much with LoRA.
        temperature: of the answers.
        every: steps between checkpoints, and between evaluations on dev.
        patience: evaluations without a better one, after which training stops.
        lora: as of `SFT`.
        seed: of everything drawn.
        vllm: TRL's way to generate with vLLM, "colocate" or "server"; None generates with transformers.
        options: whatever else `trl.GRPOConfig` takes, by name; it wins over everything above.
    """

    steps: int = 100
    prompts: int = 4
    generations: int = 8
    tokens: int = 128
    rate: float | None = None
    temperature: float = 1.0
    every: int = 25
    patience: int = 4
    lora: int = 0
    seed: int = 0
    vllm: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def rate(settings: SFT | RL, parameters: int) -> float:
    """The learning rate for a student of this size."""
    if settings.rate is not None:
        return settings.rate
    small, large = (1e-3, 1e-5) if isinstance(settings, SFT) else (2e-4, 1e-6)
    return (small if parameters < _SMALL else large) * (10 if settings.lora and parameters >= _SMALL else 1)
