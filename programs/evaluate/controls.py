"""Controls: the same program without the user's history, with another user's, or with random items of it.

A gain that comes from this user's history vanishes with the history.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from programs.data.splits import users
from programs.tasks.retrievers import retriever
from programs.tasks.task import Task
from r2p_dspy import R2P, Profile
from r2p_dspy.errors import ConfigError
from r2p_dspy.files import digest


class ReplaceProfile(dspy.Module):
    """Runs a program on other profiles than those it is called with: `replacements`, by what is `asked`."""

    def __init__(self, program: R2P, task: Task, replacements: dict[tuple[str, str], Profile]):
        super().__init__()
        self.program, self.task, self.replacements = program, task, replacements

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        return self.program(**{**kwargs, self.task.profile: self.replacements[asked(self.task, kwargs)]})


def asked(task: Task, inputs: Mapping[str, Any] | dspy.Example) -> tuple[str, str]:
    """What tells inputs apart: the question, and a hash of the history, since users may share a question."""
    return inputs[task.question], digest([str(inputs[task.profile]).encode()])


def controls(
    program: R2P, task: Task, examples: Sequence[dspy.Example], *, k: int, seed: int, tokens: int | None = None
) -> dict[str, dspy.Module]:
    """The control programs of an R2P program, by their names in a report.

    "r2p:other_user" gives each user the history of the next other user; `k`, `seed`, `tokens` are of the random items.
    """
    questions = [asked(task, example) for example in examples]
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
        "r2p:no_profile": ReplaceProfile(program, task, dict.fromkeys(questions, Profile())),
        "r2p:other_user": ReplaceProfile(program, task, swapped),
        "r2p:random_items": random_items,
    }
