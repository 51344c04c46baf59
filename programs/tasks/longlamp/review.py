"""LongLaMP, personalized product reviews (`product_review_user`, `product_review_temporal`).

input:   Generate the review text written by a reviewer who has a given an overall rating of "4.0" for a product with
         description "A folding kayak". The summary of the review text is "Light and quick".
profile: {"id": "3", "overall": "5.0", "summary": "Dry feet", "description": "Rubber boots", "reviewText": "I wore …"}
output:  I carried it down to the lake on my own …
"""

import dspy

from programs.tasks.task import Task
from r2p_dspy.profile import Profile


class Review(dspy.Signature):
    """Write the review that this user would write for the product."""

    request: str = dspy.InputField(desc="the product, the user's rating of it, and a summary of the review")
    profile: Profile = dspy.InputField(desc="reviews of the same user: rating, summary, product and text")
    review: str = dspy.OutputField(desc="the text of the review that this user would write")


TASK = Task(
    name="longlamp-review",
    lamp="LongLaMP_product_review",
    signature=Review,
    question="request",
    answer="review",
    fields=("overall", "summary", "description", "reviewText"),
    written="reviewText",
    metrics=("rouge1", "rougeL", "meteor"),
    threshold=0.2,
    template="outline",
)
