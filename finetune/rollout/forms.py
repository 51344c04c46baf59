"""The form that the answers to each training prompt must have, and who corrects them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import dspy

from finetune.student import Student
from r2p_dspy import R2P
from r2p_dspy.decoding.constraining import Constraint
from r2p_dspy.decoding.monitor import Monitor
from r2p_dspy.engines.local.masks import ConstrainedAnswer, Grammars
from r2p_dspy.errors import ConfigError
from r2p_dspy.scoring.completions import load_inputs

_INTERVENTIONS = 2
Prompt = Sequence[Mapping[str, str]]  # messages


class Forms:
    """Finds the constraint, or the monitor, of a prompt: the one that a call with this prompt has.

    TRL hands prompts alone to whoever writes rollouts. A prompt shows its items, so it decides its constraint.

    Args:
        rows: `prompt`, `task` and `inputs`, from `task_setup.RowBuilder`.
        programs: by task name, the program whose prompts these are.
        tokens: that an answer may have; None for no limit.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]], programs: Mapping[str, R2P], tokens: int | None) -> None:
        self._rows = {_key(row["prompt"]): (row["task"], row["inputs"]) for row in rows}
        self._programs, self._tokens = programs, tokens
        self._made = lru_cache(maxsize=256)(self._make)

    def of(self, prompt: Prompt) -> Constraint:
        """The constraint of a training prompt; raises KeyError for another prompt."""
        return self._made(*self._rows[_key(prompt)])

    def monitor_of(self, prompt: Prompt) -> Monitor:
        """A new monitor of an answer to a training prompt, with the interventions that R2P has by default."""
        task, inputs = self._rows[_key(prompt)]
        program = self._programs[task]
        seen = load_inputs(program.reason, inputs)
        monitor = program.reason.monitor_of(seen, dspy.ChatAdapter(), program.enforce.checks, _INTERVENTIONS)
        assert monitor is not None, "the chat adapter's format is known"
        return monitor

    def _make(self, task: str, inputs: str) -> Constraint:
        reason = self._programs[task].reason
        constraint = reason.constraint_of(load_inputs(reason, inputs), dspy.ChatAdapter(), self._tokens)
        assert constraint is not None, "the chat adapter's format is known"
        return constraint


def chosen(answer: ConstrainedAnswer, tokens: Sequence[int], ends: Collection[int]) -> list[int]:
    """For each token of an answer that is to be learnt, 0 where its form left no other text, else 1.

    An answer that leaves its form is counted from there on.
    """
    counted = []
    for token in tokens:
        if token in ends or answer.is_over:
            counted.append(int(not answer.is_over))
            break
        counted.append(int(not answer.is_forced(token)))
        try:
            answer.consume([token])
        except ConfigError:
            counted[-1] = 1
            break
    return counted + [1] * (len(tokens) - len(counted))


def student_grammars(student: Student) -> Grammars:
    """What compiles grammars for a student's tokens; its `missing` says why its tokenizer cannot follow one."""
    vocabulary = student.model.get_input_embeddings().num_embeddings
    return Grammars(student.tokenizer, vocabulary, student.end_tokens, student.chat.decode)


def grammars_of(student: Student, option: str = "--constrain-rollouts") -> Grammars:
    """The same, for an option that needs it; raises ConfigError where its tokenizer cannot follow a grammar."""
    grammars = student_grammars(student)
    if (missing := grammars.missing) is not None:
        raise ConfigError(f"{option} cannot be used with student {student.source!r}: {missing}")
    return grammars


def _key(prompt: Prompt) -> str:
    return json.dumps([(message["role"], message["content"]) for message in prompt])
