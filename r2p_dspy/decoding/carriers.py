"""How each carrier marks the stages of a running answer, and how a stage is opened in it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from r2p_dspy.prompting import tags
from r2p_dspy.prompting.tags import Section
from r2p_dspy.template import Template

ANSWER = ""  # the name of the section that begins where the stages are over


class Running(Protocol):
    """One carrier's running text."""

    def sections(self, text: str) -> Iterator[Section]:
        """The stages so far as they stand, and at the end the answer, if it has begun."""
        ...

    def begins(self, text: str) -> int:
        """Where the stages can begin at the earliest."""
        ...

    def opening(self, name: str, text: str) -> str:
        """What opens a stage, or the answer, on a new line after a text."""
        ...

    def ending(self, name: str) -> str:
        """The mark with which a stage is over."""
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

    def sections(self, text: str) -> Iterator[Section]:
        stages = {field: stage for stage, field in self.stages.items()}
        marks = list(re.finditer(r"(?m)^[^\S\n]*\[\[ ## (\w+) ## \]\]", text))
        for mark, following in zip(marks, [*marks[1:], None], strict=False):
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
        return f"\n{self._mark(name)}\n"

    def ending(self, name: str) -> str:
        names = [*self.stages, ANSWER]
        return self._mark(names[names.index(name) + 1])

    def _mark(self, name: str) -> str:
        return f"[[ ## {self.stages.get(name, self.answers[0])} ## ]]"


@dataclass(frozen=True)
class ThoughtTags:
    """The thinking carrier.

    Args:
        template: whose stages stand between tags.
    """

    template: Template

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

    def ending(self, name: str) -> str:
        return f"</{name}>"
