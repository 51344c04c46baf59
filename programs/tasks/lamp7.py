"""LaMP-7, personalized tweet paraphrasing.

input:   Paraphrase the following tweet without any explanation before or after it: The train is late again.
profile: {"id": "12", "text": "ugh monday. coffee first, then words"}
output:  ugh, train's late AGAIN
"""

import dspy

from programs.tasks.task import Task, after
from r2p_dspy.profile import Profile


class Tweet(dspy.Signature):
    """Say the tweet as this user would write it."""

    tweet: str = dspy.InputField(desc="a tweet in plain words")
    profile: Profile = dspy.InputField(desc="tweets of the same user")
    paraphrase: str = dspy.OutputField(desc="the tweet in this user's own style")


TASK = Task(
    name="lamp7",
    lamp="LaMP_7",
    signature=Tweet,
    question="tweet",
    answer="paraphrase",
    query=after(":"),
    wording=lambda text: f"Paraphrase the following tweet without any explanation before or after it: {text}",
    fields=("text",),
    metrics=("rouge1", "rougeL"),
    threshold=0.2,
)
