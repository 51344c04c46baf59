"""Controls: the same program without the user's history, with another user's, or with random items of it.

A gain that comes from *this* user's history goes when the history goes.
"""

from collections.abc import Sequence
from typing import Any

import dspy

from programs.data.splits import users
from programs.tasks.retrievers import retriever
from programs.tasks.task import Task
from r2p_dspy import R2P, Profile
from r2p_dspy.errors import ConfigError


class Instead(dspy.Module):
    """A program that is given other profiles than the caller's.

    Args:
        program: what to run.
        profile: the name of the profile input.
        profiles: by the text of the question, what to give instead.
        question: the name of the input that holds the question.
    """

    def __init__(self, program: R2P, profile: str, question: str, profiles: dict[str, Profile]):
        super().__init__()
        self.program = program
        self.profile, self.question, self.profiles = profile, question, profiles

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        return self.program(**{**kwargs, self.profile: self.profiles[kwargs[self.question]]})


def controls(program: R2P, task: Task, examples: Sequence[dspy.Example], options: Any) -> dict[str, dspy.Module]:
    """The control programs, under the names of the reports.

    Args:
        program: the program that is controlled.
        task: its task.
        examples: what it is evaluated on; each user's history is swapped for that of the next other user.
        options: with `k`, `retriever_tokens` and `seed`, for the random items.

    Raises:
        ValueError: when all examples are of one user.
    """
    questions = [example[task.question] for example in examples]
    profiles = [example[task.profile] for example in examples]
    owners = users(examples)
    if len(set(owners)) < 2:
        raise ConfigError("--controls swaps users' histories, and all examples are of one user; raise --limit")
    turned = [[*range(at + 1, len(owners)), *range(at)] for at in range(len(owners))]
    strangers = [next(other for other in order if owners[other] != owners[at]) for at, order in enumerate(turned)]
    others = {question: profiles[other] for question, other in zip(questions, strangers, strict=True)}
    randomly = program.deepcopy()
    randomly.retriever = retriever(task, "random", k=options.k, seed=options.seed, tokens=options.retriever_tokens)
    return {
        "r2p:no-profile": Instead(program, task.profile, task.question, dict.fromkeys(questions, Profile())),
        "r2p:other-user": Instead(program, task.profile, task.question, others),
        "r2p:random-items": randomly,
    }
