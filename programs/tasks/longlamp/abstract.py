"""LongLaMP, personalized abstract generation (`abstract_generation_user`, `abstract_generation_temporal`).

input:   Generate an abstract for the title "Parsing With Less" using the following items: 1. treebanks 2. transfer
profile: {"id": "12", "title": "Treebanks for All", "abstract": "We annotate …"}
output:  Treebanks are costly. We show that a parser …
"""

import dspy

from programs.tasks.task import Task
from r2p_dspy.profile import Profile


class Abstract(dspy.Signature):
    """Write the abstract that this author would write for the paper."""

    request: str = dspy.InputField(desc="the title of the paper, and what its abstract has to say")
    profile: Profile = dspy.InputField(desc="titles and abstracts of the same author")
    abstract: str = dspy.OutputField(desc="the abstract that this author would write")


def match(request: str) -> str:
    """What follows `items:`, as LongLaMP's script has it (`extract_before_bullets`, whatever its name says).

    It fails on a request without that word, which is matched as it is.
    """
    _, _, items = request.partition("items:")
    return items.strip() or request


TASK = Task(
    name="longlamp-abstract",
    lamp="LongLaMP_abstract_generation",
    signature=Abstract,
    question="request",
    answer="abstract",
    match=match,
    fields=("title", "abstract"),
    metrics=("rouge1", "rougeL", "meteor"),
    threshold=0.2,
    template="outline",
)
