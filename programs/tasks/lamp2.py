"""LaMP-2, personalized movie tagging.

input:   Which tag does this movie relate to among the following tags? Just answer with the tag name without further
         explanation. tags: [sci-fi, based on a book, …] description: A widow keeps the lighthouse of …
profile: {"id": "7", "description": "A diver finds …", "tag": "romance"}
output:  psychology
"""

from typing import Literal

import dspy

from programs.tasks.task import Task, after
from r2p_dspy.profile import Profile

LABELS = (
    "sci-fi",
    "based on a book",
    "comedy",
    "action",
    "twist ending",
    "dystopia",
    "dark comedy",
    "classic",
    "psychology",
    "fantasy",
    "romance",
    "thought-provoking",
    "social commentary",
    "violence",
    "true story",
)


class MovieTag(dspy.Signature):
    """Choose the tag that this user would give to the movie."""

    description: str = dspy.InputField(desc="what the movie is about")
    profile: Profile = dspy.InputField(desc="movies that the user tagged")
    tag: Literal[LABELS] = dspy.OutputField(desc="the tag that this user would give")  # type: ignore[valid-type]


_WORDING = (
    "Which tag does this movie relate to among the following tags? Just answer with the tag name without further "
    f"explanation. tags: [{', '.join(LABELS)}] description: "
)

TASK = Task(
    name="lamp2",
    lamp="LaMP_2",
    signature=MovieTag,
    question="description",
    answer="tag",
    query=after("description:"),
    wording=lambda text: _WORDING + text,
    fields=("description",),
    label="tag",
    labels=LABELS,
    metrics=("accuracy", "f1"),
)
