"""LongLaMP, personalized e-mails. Its data (the Avocado collection) need a licence.

input:   Generate the email text written by a person for the subject: Meeting moved to Thursday
profile: {"id": "12", "title": "Budget, last call", "text": "Please send me your figures …"}
output:  Hi all, the meeting moves to Thursday …
"""

import dspy

from programs.tasks.task import Task, after
from r2p_dspy.profile import Profile


class Email(dspy.Signature):
    """Write the e-mail that this user would write."""

    request: str = dspy.InputField(desc="what the e-mail is about")
    profile: Profile = dspy.InputField(desc="e-mails of the same user, with their subjects")
    email: str = dspy.OutputField(desc="the text of the e-mail that this user would write")


TASK = Task(
    name="longlamp-email",
    lamp="LongLaMP_email_generation",
    signature=Email,
    question="request",
    answer="email",
    match=after(":"),
    fields=("title", "text"),
    matched=("text",),
    written="text",
    metrics=("rouge1", "rougeL", "meteor"),
    threshold=0.2,
    template="outline",
)
