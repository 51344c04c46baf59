"""LaMP-6, personalized e-mail subjects. Its data (the Avocado collection) needs a licence.

input:   Generate a subject for the following email: Hi all, the meeting moves to Thursday …
profile: {"id": "12", "title": "Budget, last call", "text": "Please send me your figures …"}
output:  Meeting moved to Thursday
"""

import dspy

from programs.tasks.task import Task, after
from r2p_dspy.profile import Profile


class EmailSubject(dspy.Signature):
    """Write the subject that this user would give to the e-mail."""

    email: str = dspy.InputField(desc="the e-mail that needs a subject")
    profile: Profile = dspy.InputField(desc="e-mails and subjects of the same user")
    subject: str = dspy.OutputField(desc="the subject that this user would write")


TASK = Task(
    name="lamp6",
    lamp="LaMP_6",
    signature=EmailSubject,
    question="email",
    answer="subject",
    query=after(":"),
    wording=lambda text: f"Generate a subject for the following email: {text}",
    fields=("title", "text"),
    written="title",
    matched=("text",),
    metrics=("rouge1", "rougeL"),
    threshold=0.2,
)
