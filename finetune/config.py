"""What a fine-tuning is asked for on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from finetune.settings import RL, SFT

if TYPE_CHECKING:  # what the command line imports at its start is light
    from r2p_dspy.prompting.signature import Carrier

Method = Literal["sft", "grpo", "sft+grpo"]
STUDENT = Path(__file__).parent / "student"


@dataclass(frozen=True)
class Options:
    """What a fine-tuning is asked for; see the command line's help for each."""

    tasks: tuple[str, ...] = ("lamp2",)
    data: str | None = None
    program: str | None = None
    model: str = "pocket"
    api_base: str | None = None
    candidates: int = 5
    student: str = str(STUDENT)
    method: Method = "sft+grpo"
    carrier: Carrier | None = None
    retriever: str | None = None
    k: int | None = None
    retriever_tokens: int | None = None
    skip_bad: bool = False
    users: int = 400
    limit: int | None = None
    seed: int = 0
    num_threads: int = 16
    tokens: int = RL.tokens
    lora: int = SFT.lora
    epochs: float = SFT.epochs
    batch: int = SFT.batch
    learning_rate: float | None = SFT.rate
    steps: int = RL.steps
    prompts: int = RL.prompts
    generations: int = RL.generations
    rl_learning_rate: float | None = RL.rate
    every: int = RL.every
    patience: int = RL.patience
    vllm: str | None = None
    grpo: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from r2p_dspy.errors import ConfigError  # the command line imports this module at its start

        if self.method not in get_args(Method):
            raise ConfigError(f"unknown method {self.method!r}; the methods are {', '.join(get_args(Method))}")
        if len(set(self.tasks)) < len(self.tasks) or not self.tasks:
            raise ConfigError("give each --task once")
        if self.program is not None and len(self.tasks) > 1:
            raise ConfigError("--program is of one task; leave it out where there are several --task")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit must be at least 1, not {self.limit}")

    @property
    def sft(self) -> bool:
        """Whether the student learns from a teacher's traces."""
        return self.method != "grpo"

    @property
    def rl(self) -> bool:
        """Whether the student learns from rewards."""
        return self.method != "sft"
