"""Personalized subjects of commits, from anybody's git history (`data from-git`). Files of LaMP-6's shape are its data.

input:   Generate a subject for the following commit message: The parser counted a tab as one column …
profile: {"id": "12", "title": "parser: keep the column of a tab", "text": "Editors show …", "date": "2024-05-01"}
output:  parser: count a tab as eight columns
"""

import dspy

from programs.tasks.task import Task, after
from r2p_dspy.profile import Profile


class CommitSubject(dspy.Signature):
    """Write the subject line that this author would give to the commit."""

    body: str = dspy.InputField(desc="the body of the commit message that needs a subject line")
    profile: Profile = dspy.InputField(desc="earlier commits of the same author: subject lines and bodies")
    subject: str = dspy.OutputField(desc="the subject line that this author would write, with the author's prefixes")


TASK = Task(
    name="commits",
    shape="LaMP_6",
    signature=CommitSubject,
    question="body",
    answer="subject",
    query=after(":"),
    wording=lambda text: f"Generate a subject for the following commit message: {text}",
    fields=("title", "text"),
    written="title",
    matched=("text",),
    metrics=("rouge1", "rougeL"),
    threshold=0.2,
    quotable=("title",),
)
