"""LaMP-4, personalized news headlines.

input:   Generate a headline for the following article: The city council voted on Monday …
profile: {"id": "12", "title": "Council Delays Vote", "text": "After hours of debate …"}
output:  Council Approves New Park
"""

import dspy

from programs.tasks.task import Task, after
from r2p_dspy.profile import Profile


class Headline(dspy.Signature):
    """Write the headline that this author would write for the article."""

    article: str = dspy.InputField(desc="the article that needs a headline")
    profile: Profile = dspy.InputField(desc="articles and headlines of the same author")
    headline: str = dspy.OutputField(desc="the headline that this author would write")


TASK = Task(
    name="lamp4",
    lamp="LaMP_4",
    signature=Headline,
    question="article",
    answer="headline",
    query=after("article:"),
    wording=lambda text: f"Generate a headline for the following article: {text}",
    fields=("title", "text"),
    written="title",
    metrics=("rouge1", "rougeL"),
    threshold=0.2,
)
