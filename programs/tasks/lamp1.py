"""LaMP-1, personalized citation identification.

input:   For an author who has written the paper with the title "Parsing With Less", which reference is related? Just
         answer with [1] or [2] without explanation. [1]: "A Grammar of News" [2]: "Deep Sea Sensors"
profile: {"id": "12", "title": "Treebanks for All", "abstract": "We annotate …"}
output:  [1]
"""

import re
from typing import Literal

import dspy

from programs.tasks.task import Task
from r2p_dspy.profile import Profile

LABELS = ("[1]", "[2]")


class Citation(dspy.Signature):
    """Choose the reference that this author would cite in the paper."""

    paper: str = dspy.InputField(desc="the paper's title, and two references")
    profile: Profile = dspy.InputField(desc="papers of the same author")
    reference: Literal[LABELS] = dspy.OutputField(desc="the one that this author would cite")  # type: ignore[valid-type]


_WORDING = (
    'For an author who has written the paper with the title "{}", which reference is related? Just answer with [1] or '
    '[2] without explanation. [1]: "{}" [2]: "{}"'
)
_INPUT = re.compile(re.escape(_WORDING).replace(r"\{\}", "(.*)"), re.DOTALL)
_QUESTION = re.compile(r"(.*)\n\[1\] (.*)\n\[2\] (.*)", re.DOTALL)


def query(text: str) -> str:
    """The title and the two references, each on a line; the whole input if it has another wording.

    Examples:
        >>> print(query(wording("Parsing With Less\\n[1] A Grammar of News\\n[2] Deep Sea Sensors")))
        Parsing With Less
        [1] A Grammar of News
        [2] Deep Sea Sensors
    """
    parts = _INPUT.fullmatch(text.strip())
    return "{}\n[1] {}\n[2] {}".format(*parts.groups()) if parts else text.strip()


def wording(question: str) -> str:
    """LaMP's input for a question."""
    parts = _QUESTION.fullmatch(question)
    return _WORDING.format(*(parts.groups() if parts else (question, "", "")))


def match(question: str) -> str:
    """The two references, as LaMP's script extracts them: the second and third text in quotes, whatever they are.

    A question with another wording is matched as it is.
    """
    return " ".join(wording(question).split('"')[3:6:2]) if _QUESTION.fullmatch(question) else question


TASK = Task(
    name="lamp1",
    lamp="LaMP_1",
    signature=Citation,
    question="paper",
    answer="reference",
    query=query,
    match=match,
    wording=wording,
    fields=("title", "abstract"),
    labels=LABELS,
    metrics=("accuracy", "f1"),
)
