"""The composite score as TRL's reward functions: a completion is read, checked and scored as in a call."""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import dspy

from metrics.evidence import valid
from metrics.structure import compliant_final
from programs.optimize.compiling import composite
from programs.tasks.task import Task
from r2p_dspy import R2P, Composite, Score
from r2p_dspy.engines.chat import OPEN
from r2p_dspy.errors import R2PError
from r2p_dspy.scoring.completions import CompletionReader, load_inputs
from r2p_dspy.scoring.composite import WEIGHTS

DEGENERATE = -0.25  # the reward of an answer that was cut off or loops, whatever else it says
_MAX_PERIOD, _MIN_REPEATS = 20, 5  # a loop: up to twenty words that stand there five times or more
_CHARACTER_LOOP = re.compile(r"(\S{1,6}?)\1{19,}")  # a loop without spaces

Reward = Callable[..., list[float | None]]
Value = Callable[[str, Score, bool], float | None]  # (completion, its score, whether it was cut off) to a reward


class RewardError(R2PError):
    """A check or a metric failed while it scored an answer; `traceback` shows the user's own code."""

    def __init__(self, message: str, traceback: str = ""):
        super().__init__(message)
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.traceback)


class Rewards:
    """Scores completions of several tasks.

    Args:
        programs: by task name, the task and the program whose prompts are answered.
        opened: whether the student's template opens the thought in the prompt, so that completions begin inside it.

    Examples:
        >>> from programs.tasks.lamp2 import TASK
        >>> from programs.tasks.program import r2p
        >>> Rewards({"lamp2": (TASK, r2p(TASK))}).functions("lamp2")[0].__name__
        'composite'
    """

    def __init__(self, programs: Mapping[str, tuple[Task, R2P]], opened: bool = False):
        self._scorers: dict[str, tuple[CompletionReader, Composite, Task]] = {
            name: (CompletionReader(program.reason, program.checks), composite(task), task)
            for name, (task, program) in programs.items()
        }
        self.programs = {name: program for name, (_, program) in programs.items()}  # whose prompts are answered
        self._opened = opened
        # A program on the thinking carrier needs a template that is told to think.
        self.thinking = True if any(program.reason.thought for _, program in programs.values()) else None
        self._cached = lru_cache(maxsize=4096)(self._score)
        self.seconds = 0.0  # time spent on scoring
        self.given, self.above_zero = 0, 0  # rewards of answers in training

    def score(self, task: str, inputs: str, gold: str, text: str) -> tuple[dspy.Prediction, Score]:
        """Read and score a completion; `inputs` and `gold` are JSON. Raises RewardError if a check or metric fails."""
        started = time.perf_counter()
        try:
            return self._cached(task, inputs, gold, text)
        finally:
            self.seconds += time.perf_counter() - started

    def _score(self, name: str, inputs: str, gold: str, text: str) -> tuple[dspy.Prediction, Score]:
        reader, scored, task = self._scorers[name]
        if self._opened and not text.lstrip().startswith(OPEN):
            text = f"{OPEN}\n{text}"  # TRL hands over the generated text, and the prompt holds that tag
        try:
            prediction = reader(load_inputs(reader.reason, inputs), text)
            return prediction, scored(dspy.Example({task.gold: json.loads(gold)}), prediction)
        except Exception as error:
            raise RewardError(
                f"scoring an answer of task {name!r} failed ({type(error).__name__}: {' '.join(str(error).split())}); "
                "fix the check or metric, then continue with --resume",
                "".join(traceback.format_exception(error)),
            ) from error

    def functions(self, *tasks: str, end_tokens: Collection[int] = ()) -> list[Reward]:
        """TRL's reward functions: the composite, which has weight 1, then its parts and the tasks, with weight 0.

        Each returns a reward for each completion, and None for rows of a task that it does not know. With several
        tasks, the composite of each is logged too. An answer without one of the `end_tokens` at its end was cut off;
        without any end tokens no answer counts as cut off.
        """

        def reward(text: str, score: Score, cut_off: bool) -> float | None:
            return DEGENERATE if cut_off or loops(text) else score.rewards["reward"]

        def part(name: str) -> Value:
            return lambda text, score, cut_off: score.rewards[name]

        functions = [self._function("composite", reward, end_tokens)]
        functions += [self._function(name, part(name), end_tokens) for name in WEIGHTS]
        for task in tasks if len(tasks) > 1 else ():
            functions.append(self._function(task, lambda text, score, cut_off: float(score), end_tokens, only=task))
        return functions

    def evaluate(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> dict[str, float]:
        """Mean composite (`score`) and parts, and the shares of compliant, valid and looping answers."""
        scored = [self.score(row["task"], row["inputs"], row["gold"], text) for row, text in zip(rows, texts)]
        metrics = {"score": _mean([float(score) for _, score in scored])}
        for part in WEIGHTS:
            metrics[part] = _mean([score.parts[part] for _, score in scored if part in score.parts])
        metrics["compliance"] = _mean([float(bool(compliant_final(prediction))) for prediction, _ in scored])
        validity = [valid(prediction) for prediction, _ in scored]
        metrics["evidence_validity"] = _mean([float(value) for value in validity if value is not None])
        metrics["looping"] = _mean([float(loops(text)) for text in texts])
        return metrics

    def _function(self, name: str, value: Value, end_tokens: Collection[int], only: str | None = None) -> Reward:
        """One reward function; TRL logs it under its name."""

        def reward(
            completions: Sequence[Any],
            completion_ids: Sequence[Sequence[int]] | None = None,
            task: Sequence[str] = (),
            inputs: Sequence[str] = (),
            gold: Sequence[str] = (),
            left_out: Sequence[float] = (),
            shown: Sequence[str | None] = (),
            log_metric: Callable[[str, float], None] | None = None,
            **_: Any,
        ) -> list[float | None]:
            own = shown or [None] * len(completions)
            texts = [text_of(each) if text is None else text for each, text in zip(completions, own, strict=True)]
            token_ids = completion_ids or [()] * len(texts)
            cut_off = [bool(end_tokens) and not (ids and ids[-1] in end_tokens) for ids in token_ids]
            if log_metric is not None and name == "composite" and texts:
                log_metric("answers/cut_off", sum(cut_off) / len(cut_off))
                log_metric("answers/looping", sum(map(loops, texts)) / len(texts))
                if left_out:
                    log_metric("answers/left_out", sum(left_out) / len(left_out))
            values = [
                value(text, self.score(task_name, row_inputs, row_gold, text)[1], was_cut_off)
                if task_name in self._scorers and only in (None, task_name)
                else None
                for text, was_cut_off, task_name, row_inputs, row_gold in zip(texts, cut_off, task, inputs, gold)
            ]
            if name == "composite":
                self.given += len(values)
                self.above_zero += sum((value or 0) > 0 for value in values)
            return values

        reward.__name__ = name
        return reward


def text_of(completion: Any) -> str:
    """The text of a completion in TRL's conversational or plain form; a separate thought is put back in front."""
    if isinstance(completion, str):
        return completion
    thought = completion[-1].get("reasoning_content")
    content = completion[-1].get("content") or ""
    return f"{OPEN}\n{thought}\n</think>\n\n{content}" if thought else content


def loops(text: str) -> bool:
    """Whether a text repeats up to twenty words five times in a row.

    Examples:
        >>> loops("a film about a dog"), loops("a dog and " * 5 + "a dog")
        (False, True)
    """
    words = text.split()
    for period in range(1, min(_MAX_PERIOD, len(words) // _MIN_REPEATS) + 1):
        repeated = 0
        for word, later in zip(words, words[period:]):
            repeated = repeated + 1 if word == later else 0
            if repeated >= period * (_MIN_REPEATS - 1):
                return True
    return _CHARACTER_LOOP.search(text) is not None


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
