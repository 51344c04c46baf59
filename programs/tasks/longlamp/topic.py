"""LongLaMP, personalized topic writing (`topic_writing_user`, `topic_writing_temporal`).

input:   Generate the content for a reddit post My neighbour's rooster crows at three in the morning.
profile: {"id": "12", "summary": "I moved to a farm.", "content": "So last spring we packed …"}
output:  I have tried everything with this bird …

Posts of other sites may have a title too.
"""

import dspy

from programs.tasks.task import Task
from r2p_dspy.profile import Profile


class Post(dspy.Signature):
    """Write the post that this author would write."""

    request: str = dspy.InputField(desc="what the post is about")
    profile: Profile = dspy.InputField(desc="posts of the same author, with their summaries")
    post: str = dspy.OutputField(desc="the post that this author would write")


TASK = Task(
    name="longlamp-topic",
    lamp="LongLaMP_topic_writing",
    signature=Post,
    question="request",
    answer="post",
    fields=("title", "summary", "text"),
    optional=("title",),
    # The data set says `content`; LongLaMP's code has `input` and `output`.
    aliases=(("content", "text"), ("output", "text"), ("input", "summary")),
    matched=("summary", "text"),
    written="text",
    asked="summary",
    metrics=("rouge1", "rougeL", "meteor"),
    threshold=0.2,
    template="outline",
)
