"""How many tokens a program's answers need, told from the task's own answers: a headline needs no 1,024."""

import math
from collections.abc import Iterable
from typing import Any

import dspy

from programs.tasks.task import Task
from r2p_dspy.template import Template

_STEP = 400  # tokens of a stage, or of another output, as the monitor of a running answer allows a stage
_UNKNOWN = 256  # tokens of the longest answer where none is known
_FACTOR, _MARGIN = 2, 128  # an answer may be twice as long as any that is known; the margin holds its marks
_BYTES_PER_TOKEN = 3  # errs towards too many tokens


def tokens_needed(task: Task, program: dspy.Module, answers: Iterable[Any] = ()) -> int:
    """The tokens that the longest answer of a program may need, with its reasoning, without a native thought.

    Args:
        task: what the program does; its labels are its answers.
        program: its predictors; the one with most outputs decides.
        answers: known answers of a task for free text, such as those of the training examples. Demos count too.

    Examples:
        >>> from programs.tasks.lamp2 import TASK
        >>> tokens_needed(TASK, dspy.Predict(TASK.signature)), tokens_needed(TASK, dspy.ChainOfThought(TASK.signature))
        (140, 540)
    """
    predictors: list[Any] = program.predictors()  # type: ignore[no-untyped-call]
    shown = [demo[task.answer] for predictor in predictors for demo in predictor.demos if task.answer in demo]
    known = task.labels or [*answers, *shown]
    longest = max((len(str(answer).encode()) for answer in known), default=_UNKNOWN * _BYTES_PER_TOKEN)
    answer = _FACTOR * math.ceil(longest / _BYTES_PER_TOKEN) + _MARGIN
    # A stage may draft the answer.
    return answer + max(map(_steps, predictors)) * max(_STEP, answer)


def _steps(predictor: Any) -> int:
    """How many texts a predictor writes beside its answer."""
    template: Template | None = getattr(predictor, "template", None)
    others = len(predictor.answers) if template is not None else len(predictor.signature.output_fields)
    return others - 1 + (0 if template is None else len(template.leaves()))
