"""Controls: the same program without the user's history, with another user's, or with random items of it.

A gain that comes from this user's history vanishes with the history.
"""

from collections.abc import Sequence
from typing import Any

import dspy

from programs.data.splits import users
from programs.tasks.retrievers import retriever
from programs.tasks.task import Task
from r2p_dspy import R2P, Profile
from r2p_dspy.errors import ConfigError


class ReplaceProfile(dspy.Module):
    """Runs a program on other profiles than those it is called with.

    Args:
        program: the program to run.
        profile: the name of the profile input.
        question: the name of the input that holds the question.
        replacements: the profile to use, by the text of the question.
    """

    def __init__(self, program: R2P, profile: str, question: str, replacements: dict[str, Profile]):
        super().__init__()
        self.program = program
        self.profile, self.question, self.replacements = profile, question, replacements

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        return self.program(**{**kwargs, self.profile: self.replacements[kwargs[self.question]]})


def controls(
    program: R2P, task: Task, examples: Sequence[dspy.Example], *, k: int, seed: int, tokens: int | None = None
) -> dict[str, dspy.Module]:
    """The control programs, by their names in a report.

    Args:
        program: the program to control.
        task: its task.
        examples: what it is evaluated on; "r2p:other_user" gives each user the history of the next other user.
        k, seed, tokens: of the random items, see `retrievers.retriever`.

    Raises:
        ConfigError: when all examples belong to one user.
    """
    questions = [example[task.question] for example in examples]
    profiles = [example[task.profile] for example in examples]
    owners, count = users(examples), len(examples)
    if len(set(owners)) < 2:
        raise ConfigError("--controls swaps users' histories, but all examples belong to one user; raise --limit")
    following = [[(start + step) % count for step in range(1, count)] for start in range(count)]
    others = [next(at for at in places if owners[at] != owners[start]) for start, places in enumerate(following)]
    swapped = {question: profiles[other] for question, other in zip(questions, others, strict=True)}
    random_items = program.deepcopy()
    random_items.retriever = retriever(task, "random", k=k, seed=seed, tokens=tokens)
    return {
        "r2p:no_profile": ReplaceProfile(program, task.profile, task.question, dict.fromkeys(questions, Profile())),
        "r2p:other_user": ReplaceProfile(program, task.profile, task.question, swapped),
        "r2p:random_items": random_items,
    }
