"""LaMP-3, personalized product rating.

input:   What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without
         further explanation. review: The battery was superb but …
profile: {"id": "3", "text": "The screen is dull …", "score": "2"}
output:  4
"""

from typing import Literal

import dspy

from programs.tasks.task import Task, after
from r2p_dspy.profile import Profile

LABELS = ("1", "2", "3", "4", "5")


class ProductRating(dspy.Signature):
    """Choose the rating that this user would give with the review."""

    review: str = dspy.InputField(desc="what the user wrote about the product")
    profile: Profile = dspy.InputField(desc="reviews that the user wrote and rated")
    score: Literal[LABELS] = dspy.OutputField(desc="the rating that this user would give")  # type: ignore[valid-type]


_WORDING = (
    "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, 3, 4, or 5 without "
    "further explanation. review: "
)

TASK = Task(
    name="lamp3",
    lamp="LaMP_3",
    signature=ProductRating,
    question="review",
    answer="score",
    query=after("review:"),
    wording=lambda text: _WORDING + text,
    fields=("text",),
    label="score",
    labels=LABELS,
    metrics=("mae", "rmse"),
)
