"""How each carrier marks the stages in a running answer."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import dspy
from dspy.adapters import Adapter
from dspy.adapters.utils import parse_value

from r2p_dspy.prompting import tags
from r2p_dspy.prompting.shapes import writes_markers
from r2p_dspy.prompting.tags import Section
from r2p_dspy.prompting.xml import elements, parse_lenient
from r2p_dspy.template import Template

ANSWER = ""  # the name of the section after the last stage


class StageMarks(Protocol):
    """The marks of one carrier."""

    def sections(self, text: str) -> Iterator[Section]:
        """The stages in the text so far, in the order in which they stand, then the answer if it has begun."""

    def earliest(self, text: str) -> int:
        """The first position at which a stage may begin."""

    def opening(self, name: str, text: str) -> str:
        """The mark that opens a stage, or the answer, on a new line after `text`."""

    def ending(self, name: str) -> str:
        """The mark that ends a stage."""

    def value(self, text: str, kind: Any) -> Any:
        """The text of a stage as a value of its type; an exception of any kind where it is none."""
        return parse_value(text, kind)


def field_marks(adapter: Adapter, stages: Mapping[str, str], answers: Sequence[str]) -> StageMarks | None:
    """The marks of the fields carrier under an adapter; None where a running answer has none.

    Chat and XML answers have marks around which a note can be put. JSON has no place for a note, and at temperature 0
    the same model, cut back without one, would write the same again; so JSON answers are corrected by a retry.
    """
    if isinstance(adapter, dspy.XMLAdapter):
        return FieldElements(stages, answers)
    return FieldMarkers(stages, answers) if writes_markers(adapter) else None


@dataclass(frozen=True)
class FieldMarkers(StageMarks):
    """The marks of the fields carrier, as DSPy's chat adapter writes them."""

    stages: Mapping[str, str]  # the field of each stage
    answers: Sequence[str]  # names of the signature's own outputs

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

    def earliest(self, text: str) -> int:
        return 0

    def opening(self, name: str, text: str) -> str:
        return f"\n{self._mark(name)}\n"

    def ending(self, name: str) -> str:
        names = [*self.stages, ANSWER]
        return self._mark(names[names.index(name) + 1])

    def _mark(self, name: str) -> str:
        return f"[[ ## {self.stages.get(name, self.answers[0])} ## ]]"


@dataclass(frozen=True)
class FieldElements(StageMarks):
    """The marks of the fields carrier, as DSPy's XML adapter writes them: an element for each field."""

    stages: Mapping[str, str]  # the field of each stage
    answers: Sequence[str]  # names of the signature's own outputs

    def sections(self, text: str) -> Iterator[Section]:
        stages = {field: stage for stage, field in self.stages.items()}
        for element in elements([*stages, *self.answers], text):
            if element.name not in stages:
                yield Section(ANSWER, element.start, "", len(text), False)
                return
            yield Section(stages[element.name], element.start, element.text, element.end, element.closed)

    def earliest(self, text: str) -> int:
        return 0

    def opening(self, name: str, text: str) -> str:
        return f"\n<{self.stages.get(name, self.answers[0])}>\n"

    def ending(self, name: str) -> str:
        return f"</{self.stages[name]}>"

    def value(self, text: str, kind: Any) -> Any:
        # Without callbacks: the user's would count this reading as one of the whole answer.
        with dspy.context(callbacks=[]):
            return parse_lenient(dspy.XMLAdapter().parse, _single(kind), f"<value>{text}</value>")["value"]


@dataclass(frozen=True)
class ThoughtTags(StageMarks):
    """The marks of the thinking carrier: tags."""

    template: Template

    def sections(self, text: str) -> Iterator[Section]:
        before, closed, _ = text.partition("</think>")
        yield from tags.sections(self.template, before)
        if closed:
            yield Section(ANSWER, len(before), "", len(text), False)

    def earliest(self, text: str) -> int:
        start = len(text) - len(text.lstrip())
        return start + len("<think>") if text.startswith("<think>", start) else 0

    def opening(self, name: str, text: str) -> str:
        if name == ANSWER:
            return tags.closing(self.template, text) + "</think>\n\n"
        return tags.opening(self.template, name, text)

    def ending(self, name: str) -> str:
        return f"</{name}>"


@lru_cache(maxsize=64)
def _single(kind: Any) -> type[dspy.Signature]:
    """A signature with one output of a type, called `value`."""
    return dspy.make_signature({"value": (kind, dspy.OutputField())})
