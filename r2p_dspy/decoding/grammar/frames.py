"""What stands around the values of an answer: the marks of each carrier and adapter, with DSPy's own white space."""

from collections.abc import Sequence
from dataclasses import dataclass

from r2p_dspy.prompting import tags
from r2p_dspy.template import Template

OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True)
class Joint:
    """The text before a value, and the marks after any of which the value is near."""

    text: str
    marks: tuple[str, ...]

    def left(self, before: str) -> str | None:
        """What is left to write before the value, after a text that ends with a mark; None after any other text."""
        end = before.rstrip()
        for mark in self.marks:
            if end.endswith(mark):
                rest = self.text.partition(mark)[2]
                space = rest[: len(rest) - len(rest.lstrip())]
                written = before[len(end) :]  # the white space that is there already
                return (space.removeprefix(written) if space.startswith(written) else "") + rest[len(space) :]
        return None


@dataclass(frozen=True)
class Frame:
    """The joints before each value of an answer, and the text after the last one."""

    joints: tuple[Joint, ...]
    end: str


def chat(names: Sequence[str]) -> Frame:
    """The chat adapter's markers.

    Examples:
        >>> [joint.text for joint in chat(["tag"]).joints], chat(["tag"]).end
        (['[[ ## tag ## ]]\\n'], '\\n\\n[[ ## completed ## ]]')
    """
    marks = [f"[[ ## {name} ## ]]" for name in names]
    joints = [Joint(f"{'' if at == 0 else chr(10) * 2}{mark}\n", (mark,)) for at, mark in enumerate(marks)]
    return Frame(tuple(joints), "\n\n[[ ## completed ## ]]")


def xml(names: Sequence[str], nested: Sequence[bool]) -> Frame:
    """The XML adapter's elements; a nested one has its value without line breaks.

    Examples:
        >>> frame = xml(["draft", "tags"], [False, True])
        >>> [joint.text for joint in frame.joints], frame.end
        (['<draft>\\n', '\\n</draft>\\n\\n<tags>'], '</tags>')
    """
    joints, end = [], ""
    for name, inner in zip(names, nested):
        line = "" if inner else "\n"
        joints.append(Joint(f"{end}{chr(10) * 2 if end else ''}<{name}>{line}", (f"<{name}>",)))
        end = f"{line}</{name}>"
    return Frame(tuple(joints), end)


def json(names: Sequence[str]) -> Frame:
    """The JSON adapter's object.

    Examples:
        >>> frame = json(["draft", "tag"])
        >>> [joint.text for joint in frame.joints], frame.end
        (['{\\n  "draft": ', ',\\n  "tag": '], '\\n}')
    """
    joints = [Joint(f'{"{" if at == 0 else ","}\n  "{name}": ', (f'"{name}":',)) for at, name in enumerate(names)]
    return Frame(tuple(joints), "\n}")


def thinking(template: Template, answer: Frame) -> Frame:
    """A thought with the template's tags, and the answer after it.

    Examples:
        >>> from r2p_dspy.template import BRIEF
        >>> [joint.text for joint in thinking(BRIEF, chat(["tag"])).joints][1:]
        ['\\n</evidence>\\n<preferences>\\n', '\\n</preferences>\\n</synthesise>\\n</think>\\n\\n[[ ## tag ## ]]\\n']
    """
    names = [stage.name for stage in template.leaves()]
    first, *between, end = tags.render(template, dict.fromkeys(names, "\0")).split("\0")
    texts = [f"{OPEN}\n{first}", *between]
    stages = [Joint(text, (f"<{name}>",)) for text, name in zip(texts, names)]
    joint, *others = answer.joints
    last = Joint(f"{end}\n{CLOSE}\n\n{joint.text}", (*joint.marks, CLOSE))
    return Frame((*stages, last, *others), answer.end)
