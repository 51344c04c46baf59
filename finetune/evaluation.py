"""How good a student is on dev while it trains: its likeliest answers, judged by the reward that RL has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from finetune.student import Student
from r2p_dspy.engines.chat import OPEN

CorrectionMode = Callable[[Sequence[Mapping[str, Any]], Sequence[str]], Mapping[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """Questions, and who grades the answers.

    Args:
        rows: with a `prompt` each, and whatever `grade` needs.
        grade: (rows, answers) to figures, among them `score`, the higher the better.
        tokens: of an answer at most.
        seen: is told (step, rows, answers, figures) after each sitting.
    """

    rows: Sequence[Mapping[str, Any]]
    grade: CorrectionMode
    tokens: int = 128
    seen: Callable[[int, Sequence[Mapping[str, Any]], Sequence[str], Mapping[str, float]], None] | None = None

    def of(self, student: Student) -> Sitting:
        """The exam for one student."""
        return Sitting(self, student, [student.prompt(row["prompt"]) for row in self.rows])


@dataclass(frozen=True)
class Sitting:
    """An exam with its prompts in a student's tokens."""

    exam: Evaluation
    student: Student
    prompts: Sequence[tuple[list[int], bool]]

    def __call__(self, model: Any, step: int) -> dict[str, float]:
        """What a model gets, as it is now."""
        texts = answers(model, self.student, self.prompts, self.exam.tokens)
        figures = dict(self.exam.grade(self.exam.rows, texts))
        if self.exam.seen is not None:
            self.exam.seen(step, self.exam.rows, texts, figures)
        return figures


@torch.inference_mode()
def answers(
    model: Any, student: Student, prompts: Sequence[tuple[list[int], bool]], most: int, batch: int = 64
) -> list[str]:
    """The likeliest answers to prompts, with the tag of a thought that the prompt has opened."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index][0]))
    texts = [""] * len(prompts)
    device = next(model.parameters()).device
    for start in range(0, len(order), batch):
        some = order[start : start + batch]
        padded = student.tokenizer.pad(
            {"input_ids": [prompts[index][0] for index in some]}, padding_side="left", return_tensors="pt"
        ).to(device)
        made = model.generate(
            **padded, max_new_tokens=most, do_sample=False, pad_token_id=student.tokenizer.pad_token_id
        )
        for index, ids in zip(some, made[:, padded["input_ids"].shape[1] :].tolist(), strict=True):
            texts[index] = (f"{OPEN}\n" if prompts[index][1] else "") + student.chat.decode(ids)
    return texts


class Examined:
    """Of a trainer: its evaluation is the exam in `sat`, on one process for all."""

    sat: Sitting | None = None

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        from accelerate.utils import broadcast_object_list
        from trl.models.utils import unwrap_model_for_generation

        trainer: Any = self
        figures: list[Any] = [None]
        was = trainer.model.training
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            model.eval()
            if trainer.accelerator.is_main_process and self.sat is not None:
                figures = [self.sat(model, trainer.state.global_step)]
            model.train(was)
        broadcast_object_list(figures)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures[0].items()}
        trainer.log(metrics)
        trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, metrics)
        trainer._memory_tracker.stop_and_update_metrics(metrics)
        return metrics
