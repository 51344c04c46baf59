"""How each carrier marks the stages of a running answer, and how a stage is opened in it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from r2p_dspy import tags
from r2p_dspy.tags import Section
from r2p_dspy.template import Template

ANSWER = ""  # the name of the section that begins where the stages are over


class Running(Protocol):
    """One carrier's running text; `mark` is what every mark begins with, that of a stage's end included."""

    @property
    def mark(self) -> str: ...

    def sections(self, text: str) -> Iterator[Section]:
        """The stages so far as they stand, and at the end the answer, if it has begun."""
        ...

    def begins(self, text: str) -> int:
        """Where the stages can begin at the earliest."""
        ...

    def opening(self, name: str, text: str) -> str:
        """What opens a stage, or the answer, on a new line after a text."""
        ...


@dataclass(frozen=True)
class FieldMarkers:
    """The fields carrier, as DSPy's chat adapter writes it.

    Args:
        stages: for each stage, its field.
        answers: the signature's own outputs.
    """

    stages: Mapping[str, str]
    answers: Sequence[str]
    mark = "[[ ##"

    def sections(self, text: str) -> Iterator[Section]:
        stages = {field: stage for stage, field in self.stages.items()}
        marks = list(re.finditer(r"(?m)^[^\S\n]*\[\[ ## (\w+) ## \]\]", text))
        begun = re.search(r"(?m)^[^\S\n]*\[\[ ##\Z", text)  # whichever it will be, the section before it is over
        for mark, following in zip(marks, [*marks[1:], begun], strict=False):
            end = len(text) if following is None else following.start()
            if mark[1] in stages:
                inner = text[mark.end() : end].strip()
                yield Section(stages[mark[1]], mark.start(), inner, end, following is not None)
            elif mark[1] in self.answers or mark[1] == "completed":
                yield Section(ANSWER, mark.start(), "", len(text), False)
                return

    def begins(self, text: str) -> int:
        return 0

    def opening(self, name: str, text: str) -> str:
        return f"\n[[ ## {self.stages.get(name, self.answers[0])} ## ]]\n"


@dataclass(frozen=True)
class ThoughtTags:
    """The thinking carrier.

    Args:
        template: whose stages stand between tags.
    """

    template: Template
    mark = "</"

    def sections(self, text: str) -> Iterator[Section]:
        before, closed, _ = text.partition("</think>")
        yield from tags.sections(self.template, before)
        if closed:
            yield Section(ANSWER, len(before), "", len(text), False)

    def begins(self, text: str) -> int:
        start = len(text) - len(text.lstrip())
        return start + len("<think>") if text.startswith("<think>", start) else 0

    def opening(self, name: str, text: str) -> str:
        if name == ANSWER:
            return tags.closing(self.template, text) + "</think>\n\n"
        return tags.opening(self.template, name, text)
