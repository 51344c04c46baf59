"""The evaluation on dev while a student trains: greedy answers, scored by the composite that also rewards GRPO."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finetune.private_apis import announce_evaluation
from finetune.rollout.forms import Forms, student_grammars
from finetune.student import Student
from r2p_dspy.engines.chat import OPEN
from r2p_dspy.engines.local.batching import Batcher
from r2p_dspy.engines.local.masks import ConstrainedAnswer
from r2p_dspy.engines.local.request import loop_check
from r2p_dspy.engines.local.rows import Row
from r2p_dspy.engines.weights import is_large, is_narrowed

if TYPE_CHECKING:  # DSPy's provider trains without tasks
    from finetune.rewards import Rewards
    from finetune.task_setup import TaskSetup
    from programs.runs.directory import Rows as RowsFile
    from programs.runs.reporter import Reporter

_SAMPLES = 3  # answers of each evaluation that are kept for reading
Rows = Sequence[Mapping[str, Any]]
Prompt = tuple[list[int], bool]  # its tokens, and whether they open a thought
Metrics = Mapping[str, float]
EvaluateModel = Callable[[Any, int], dict[str, float]]


@dataclass(frozen=True)
class Evaluation:
    """The questions of an evaluation, and how answers are scored."""

    rows: Rows
    score: Callable[[Rows, Sequence[str]], Metrics]  # of answers; in `score`, higher is better
    tokens: int = 128  # length limit of an answer
    on_result: Callable[[int, Rows, Sequence[str], Metrics], None] | None = None
    forms: Forms | None = None  # of the answers of a large student, which are held to them, as in use

    def of(self, student: Student) -> EvaluateModel:
        """The evaluation as a function of (model, step), with the prompts in a student's tokens."""
        prompts = [student.prompt(row["prompt"]) for row in self.rows]
        grammars = student_grammars(student) if self.forms is not None and is_large(student.model) else None

        def held(index: int) -> ConstrainedAnswer | None:
            if self.forms is None or grammars is None or grammars.missing is not None:
                return None
            form = self.forms.of(self.rows[index]["prompt"])
            return ConstrainedAnswer(grammars, form, _opening(prompts[index]))

        def evaluate(model: Any, step: int) -> dict[str, float]:
            answers = generate_answers(model, student, prompts, self.tokens, held=held)
            metrics = dict(self.score(self.rows, answers))
            if self.on_result is not None:
                self.on_result(step, self.rows, answers, metrics)
            return metrics

        return evaluate


def evaluation_on_dev(
    stage: str, setups: Sequence[TaskSetup], rewards: Rewards, tokens: int, samples: RowsFile, reporter: Reporter
) -> Evaluation:
    """The evaluation of a training (`stage`) on the dev users of all tasks; `samples` gets a few answers of each."""
    kept = {(row["stage"], row["step"]) for row in samples}

    def on_result(step: int, rows: Rows, answers: Sequence[str], metrics: Metrics) -> None:
        values = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items() if name != "looping")
        reporter.say(f"{stage}, step {step}, dev: {values}")
        if (stage, step) in kept:
            return
        distance = max(1, len(rows) // _SAMPLES)
        for row, answer in list(zip(rows, answers))[::distance][:_SAMPLES]:
            score = rewards.score(row["task"], row["inputs"], row["gold"], answer)[1]
            about = {"stage": stage, "step": step, "task": row["task"], "id": row["id"], "user": row.get("user")}
            samples.append({**about, "score": float(score), "feedback": score.feedback, "answer": answer})

    questions = [setup.rows(example) for setup in setups for example in setup.data.dev]
    forms = Forms(questions, {setup.task.name: setup.program for setup in setups}, tokens)
    return Evaluation(questions, rewards.evaluate, tokens, on_result, forms)


@torch.inference_mode()
def generate_answers(
    model: Any,
    student: Student,
    prompts: Sequence[Prompt],
    max_tokens: int,
    batch: int = 64,
    held: Callable[[int], ConstrainedAnswer | None] = lambda index: None,
) -> list[str]:
    """Greedy answers to prompts, with the opening tag of a thought where a prompt ends with it.

    A large model on a CPU answers as it is served there: `held` gives the grammar of the answer to a prompt, by the
    prompt's place.
    """
    if next(model.parameters()).device.type == "cpu" and is_large(model):
        return _answers_as_served(model, student, prompts, max_tokens, held)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index][0]))
    answers = [""] * len(prompts)
    device = next(model.parameters()).device
    for start in range(0, len(order), batch):
        indices = order[start : start + batch]
        padded = student.tokenizer.pad(
            {"input_ids": [prompts[index][0] for index in indices]}, padding_side="left", return_tensors="pt"
        ).to(device)
        generated = model.generate(
            **padded, max_new_tokens=max_tokens, do_sample=False, pad_token_id=student.tokenizer.pad_token_id
        )
        for index, ids in zip(indices, generated[:, padded["input_ids"].shape[1] :].tolist(), strict=True):
            answers[index] = _opening(prompts[index]) + student.chat.decode(ids)
    return answers


def _answers_as_served(
    model: Any,
    student: Student,
    prompts: Sequence[Prompt],
    max_tokens: int,
    held: Callable[[int], ConstrainedAnswer | None],
) -> list[str]:
    """The answers of the in-process engine, which reads what prompts share once, ends loops, and keeps to forms."""
    copied = copy.deepcopy(model)
    served = copied.merge_and_unload() if hasattr(copied, "merge_and_unload") else copied
    vars(served).pop("forward", None)  # accelerate's, for mixed precision
    batch = Batcher(served.bfloat16() if is_narrowed(served) else served, student.end_tokens)
    loops = loop_check(student.chat.decode)
    try:
        rows = batch.run(
            Row(ids, max_tokens, loops=loops, constrained=held(index)) for index, (ids, _) in enumerate(prompts)
        )
    finally:
        batch.close()
    return [_opening(prompt) + student.chat.decode(row.tokens) for row, prompt in zip(rows, prompts, strict=True)]


def _opening(prompt: Prompt) -> str:
    """What the prompt has of the answer: the tag of a thought, or nothing."""
    return f"{OPEN}\n" if prompt[1] else ""


class EvaluatesStudent:
    """Mixin for a trainer: `evaluate` runs `evaluate_model` on the main process, and all processes get its metrics."""

    evaluate_model: EvaluateModel | None = None

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> dict[str, float]:
        """Evaluate the model as it is now, log the metrics, and return them."""
        from accelerate.utils import broadcast_object_list
        from trl.models import unwrap_model_for_generation

        trainer: Any = self
        shared: list[Any] = [None]
        was_training = trainer.model.training
        with unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as model:
            model.eval()
            if trainer.accelerator.is_main_process and self.evaluate_model is not None:
                shared = [self.evaluate_model(model, trainer.state.global_step)]
            model.train(was_training)
        broadcast_object_list(shared)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in shared[0].items()}
        trainer.log(metrics)
        announce_evaluation(trainer, metrics)
        return metrics
