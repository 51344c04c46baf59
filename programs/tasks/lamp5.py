"""LaMP-5, personalized scholarly titles.

input:   Generate a title for the following abstract of a paper: We present a parser that reads …
profile: {"id": "12", "title": "Parsing With Less", "abstract": "Treebanks are costly. We show …"}
output:  Reading Ahead: A Parser for Headlines
"""

import dspy

from programs.tasks.task import Task, after
from r2p_dspy.profile import Profile


class PaperTitle(dspy.Signature):
    """Write the title that this author would give to the paper."""

    abstract: str = dspy.InputField(desc="the abstract of the paper that needs a title")
    profile: Profile = dspy.InputField(desc="abstracts and titles of the same author")
    title: str = dspy.OutputField(desc="the title that this author would write")


TASK = Task(
    name="lamp5",
    lamp="LaMP_5",
    signature=PaperTitle,
    question="abstract",
    answer="title",
    query=after(":"),
    wording=lambda text: f"Generate a title for the following abstract of a paper: {text}",
    fields=("title", "abstract"),
    metrics=("rouge1", "rougeL"),
    threshold=0.2,
)
