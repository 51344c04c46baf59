"""The library's composite score as TRL's rewards: the same reading, checks and metrics as in a call, on a text."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
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

WASTE = -0.25  # what an answer gets that was cut off or goes round in circles, whatever else it says
_PERIOD, _ROUNDS = 20, 5  # words that come again at most, and how often they stand there at least
_RUN = re.compile(r"(\S{1,6}?)\1{19,}")  # the same without spaces

Reward = Callable[..., list[float | None]]


class RewardError(R2PError):
    """A check or a metric failed while it scored; one line says which."""


class Rewards:
    """Scores completions of several tasks.

    Args:
        programs: of each task its name, the task, and the program whose prompts were answered.
        opened: the student's template opens the thought in the prompt, so that its completions begin inside it.

    Example:
        >>> from programs.tasks.lamp2 import TASK
        >>> from programs.evaluate.baselines import r2p
        >>> Rewards({"lamp2": (TASK, r2p(TASK))}).functions("lamp2")[0].__name__
        'composite'
    """

    def __init__(self, programs: Mapping[str, tuple[Task, R2P]], opened: bool = False):
        self._reads: dict[str, tuple[CompletionReader, Composite, Task]] = {
            name: (CompletionReader(program.reason, program.checks), composite(task), task)
            for name, (task, program) in programs.items()
        }
        self._opened = opened
        # Where a program reasons in the model's own thinking, the model is told to think.
        self.thinks = True if any(program.reason.thought for _, program in programs.values()) else None
        self._of = lru_cache(maxsize=4096)(self._judged)
        self.seconds = 0.0  # that scoring took

    def judged(self, task: str, inputs: str, gold: str, text: str) -> tuple[dspy.Prediction, Score]:
        """What a completion comes to.

        Args:
            task: its name.
            inputs: as rendered, in JSON.
            gold: the right answer, in JSON.
            text: the completion.

        Raises:
            RewardError: a check or the task's metric failed.
        """
        started = time.perf_counter()
        try:
            return self._of(task, inputs, gold, text)
        finally:
            self.seconds += time.perf_counter() - started

    def _judged(self, task: str, inputs: str, gold: str, text: str) -> tuple[dspy.Prediction, Score]:
        judged, scored, about = self._reads[task]
        if self._opened and not text.lstrip().startswith(OPEN):
            text = f"{OPEN}\n{text}"  # TRL hands over what was generated, and that tag was not
        try:
            prediction = judged(load_inputs(judged.reason, inputs), text)
            return prediction, scored(dspy.Example({about.answer: json.loads(gold)}), prediction)
        except Exception as error:
            raise RewardError(
                f"scoring an answer of task {task!r} failed ({type(error).__name__}: {' '.join(str(error).split())}); "
                "mend the check or metric, then go on with --resume"
            ) from error

    def functions(self, *tasks: str, ends: set[int] = frozenset()) -> list[Reward]:  # type: ignore[assignment]
        """TRL's reward functions: the composite first, which has weight 1; then its parts and tasks, with weight 0.

        Each takes TRL's arguments and the columns `task`, `inputs` and `gold`, and returns a reward for each
        completion, None for rows of a task that it does not know.

        Args:
            tasks: of the run; with several, each task's composite is logged too.
            ends: the tokens that end an answer; without one of them at its end an answer was cut off. None are given:
                nothing is known of that.
        """
        found = [
            self._function(
                "composite", lambda text, score, cut: WASTE if cut or looping(text) else score.rewards["reward"]
            )
        ]
        for part in WEIGHTS:
            found.append(self._function(part, lambda text, score, cut, part=part: score.rewards[part]))
        for name in tasks if len(tasks) > 1 else ():
            found.append(self._function(name, lambda text, score, cut: float(score), only=name))
        return [_named(one, name, ends) for one, name in found]

    def grade(self, rows: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> dict[str, float]:
        """The figures of an exam: `score`, the mean composite, then its parts, and shares of answers in order."""
        made = [self.judged(row["task"], row["inputs"], row["gold"], text) for row, text in zip(rows, texts)]
        figures = {"score": _mean([float(score) for _, score in made])}
        for part in WEIGHTS:
            figures[part] = _mean([score.parts[part] for _, score in made if part in score.parts])
        figures["compliance"] = _mean([float(bool(compliant_final(prediction))) for prediction, _ in made])
        figures["evidence_validity"] = _mean([float(found) for one, _ in made if (found := valid(one)) is not None])
        figures["looping"] = _mean([float(looping(text)) for text in texts])
        return figures

    def _function(self, name: str, value: Callable[..., float | None], only: str | None = None) -> tuple[Any, str]:
        def rewards(
            texts: Sequence[str], cut: Sequence[bool], task: Sequence[str], inputs: Sequence[str], gold: Sequence[str]
        ) -> list[float | None]:
            return [
                value(text, self.judged(name, given, right, text)[1], ended)
                if name in self._reads and only in (None, name)
                else None
                for text, ended, name, given, right in zip(texts, cut, task, inputs, gold)
            ]

        return rewards, name


def _named(rewards: Any, name: str, ends: set[int]) -> Reward:
    """A function as TRL calls it, under a name for its log."""

    def reward(
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        task: Sequence[str] = (),
        inputs: Sequence[str] = (),
        gold: Sequence[str] = (),
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        texts = [text_of(one) for one in completions]
        cut = [bool(ends) and not (ids and ids[-1] in ends) for ids in completion_ids or [()] * len(texts)]
        if log_metric is not None and name == "composite" and texts:
            log_metric("answers/cut_off", sum(cut) / len(cut))
            log_metric("answers/looping", sum(map(looping, texts)) / len(texts))
        return rewards(texts, cut, task, inputs, gold)

    reward.__name__ = name
    return reward


def text_of(completion: Any) -> str:
    """A completion's text, of TRL's conversational form or of its plain one."""
    if isinstance(completion, str):
        return completion
    thought = completion[-1].get("reasoning_content")
    content = completion[-1].get("content") or ""
    return f"{OPEN}\n{thought}\n</think>\n\n{content}" if thought else content


def looping(text: str) -> bool:
    """Whether a text says the same up to twenty words five times in a row.

    Example:
        >>> looping("a film about a dog"), looping("a dog and " * 5 + "a dog")
        (False, True)
    """
    words = text.split()
    for period in range(1, min(_PERIOD, len(words) // _ROUNDS) + 1):
        run = 0
        for one, other in zip(words, words[period:]):
            run = run + 1 if one == other else 0
            if run >= period * (_ROUNDS - 1):
                return True
    return _RUN.search(text) is not None


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
