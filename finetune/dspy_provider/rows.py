"""DSPy's exported training rows, turned into the calls that a program makes when it runs.

Two things differ where a model reasons in native thinking. DSPy exports the thought as one more output field; at run
time the field is not in the prompt, and the thought stands between `<think>` tags. And `Reason` adds the stages to the
instructions, and shows no demos.

A provider gets messages, no signature, so rows are read by DSPy's wording: the patterns below are the only places that
know it, and `TestRows` compares the results with real calls, so a change of DSPy's wording fails there. R2P's rows are
recognized by the description of the thought, `signature.STEPS`, which no other program's field has.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2p_dspy.engines.chat import CLOSE, OPEN
from r2p_dspy.prompting import tags
from r2p_dspy.prompting.signature import STEPS
from r2p_dspy.template import TEMPLATE, Template

Message = Mapping[str, str]


@dataclass(frozen=True)
class _Format:
    """How an adapter writes a thought as the first output field of a prompt and of an answer."""

    reminder: re.Pattern[str]  # the names of the thought and of the field after it, in the prompt's last sentences
    in_reminder: str
    in_structure: str
    opening: str
    ending: str  # what stands between the thought and the next field


# Only a field of type `dspy.Reasoning` is called a Python str: for a field of type str the adapter says nothing.
_THOUGHT_TYPE = " (must be formatted as a valid Python str), then "
_CHAT = _Format(
    re.compile(
        r"starting with the field `\[\[ ## (?P<thought>\w+) ## \]\]`"
        + re.escape(_THOUGHT_TYPE)
        + r"`\[\[ ## (?P<answer>\w+) ## \]\]`"
    ),
    in_reminder="`[[ ## {thought} ## ]]`" + _THOUGHT_TYPE,
    in_structure="[[ ## {thought} ## ]]\n{{{thought}}}\n\n",
    opening="[[ ## {thought} ## ]]",
    ending="[[ ## {answer} ## ]]\n",
)
# The XML adapter says no types: only R2P's thoughts, which their description tells, are recognized in its rows.
_XML = _Format(
    re.compile(r"wrapped in XML tags `<(?P<thought>\w+)>`, then `<(?P<answer>\w+)>`"),
    in_reminder="`<{thought}>`, then ",
    in_structure="<{thought}>\n{{{thought}}}\n</{thought}>\n\n",
    opening="<{thought}>",
    ending="</{thought}>",
)
_XML_REMINDER = re.compile(r"Respond with the corresponding output fields wrapped in XML tags [^\n]*\Z")
_END = "[[ ## completed ## ]]"
_OUTPUT_FIELDS, _STRUCTURE = "Your output fields are:\n", "\nAll interactions will be structured"


@dataclass(frozen=True)
class TrainingCall:
    """One call to learn from."""

    prompt: list[dict[str, str]]
    completion: str
    thinks: bool = False  # the completion begins with a thought between `<think>` tags

    @property
    def answer(self) -> list[dict[str, str]]:
        """The completion as a message."""
        return [{"role": "assistant", "content": self.completion}]


def normalize_exported_row(
    prompt: Sequence[Message], completion: str, *, thinks: bool, template: Template = TEMPLATE
) -> TrainingCall:
    """Turn a row of DSPy's into the call that it stands for; a row without a thought stays as it is.

    White space at the answer's end is dropped: DSPy's adapters write it, and models do not. Where a model has no native
    thinking (`thinks`), the thought is a field at run time too.

    Examples:
        >>> import dspy
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     reasoning: dspy.Reasoning = dspy.OutputField()
        ...     tag: str = dspy.OutputField()
        >>> row = dspy.ChatAdapter().format(Tag, [], {"film": "A storm."})
        >>> text = "[[ ## reasoning ## ]]\\nSea.\\n\\n[[ ## tag ## ]]\\nsad\\n"
        >>> normalize_exported_row(row, text, thinks=True).completion
        '<think>\\nSea.\\n</think>\\n\\n[[ ## tag ## ]]\\nsad'
    """
    messages, completion = [dict(message) for message in prompt], completion.rstrip()
    form = _XML if asks_for_xml(messages) else _CHAT
    reminder = form.reminder.search(messages[-1]["content"])
    steps = reminder is not None and f"`{reminder['thought']}` (str): {STEPS}" in messages[0]["content"]
    if reminder is None or (form is _XML and not steps):
        return TrainingCall(messages, completion)
    names = reminder.groupdict()
    if steps:
        system, *_demos, question = messages
        system["content"] += f"\n\n{tags.guide(template)}"
        messages = [system, question]
    if not thinks:
        return TrainingCall(messages, completion)
    edit = {"user": _user_without, "assistant": _assistant_without}
    for message in messages:
        message["content"] = edit.get(message["role"], _system_without)(message["content"], form, names)
    thought, text = _split(completion, form, names)
    if not thought:
        return TrainingCall(messages, text)
    return TrainingCall(messages, f"{OPEN}\n{thought}\n{CLOSE}\n\n{text}", thinks=True)


def asks_for_xml(prompt: Sequence[Message]) -> bool:
    """Whether a prompt asks for an answer in the XML adapter's format."""
    return bool(_XML_REMINDER.search(prompt[-1]["content"]))


def is_cut_off(prompt: Sequence[Message], completion: str) -> bool:
    """Whether an answer lacks the end that the adapter's format gives it."""
    if asks_for_xml(prompt):
        *_, last = re.findall(r"`<(\w+)>`", prompt[-1]["content"])
        return not completion.endswith((f"</{last}>", f"<{last} />"))
    return f"`{_END}`" in prompt[-1]["content"] and not completion.endswith(_END)


def _split(completion: str, form: _Format, names: dict[str, str]) -> tuple[str, str]:
    """The thought, and the rest of a completion; no thought in an unreadable answer, which DSPy exports as it is."""
    opening, ending = form.opening.format(**names), form.ending.format(**names)
    if form is _XML:
        before, _, text = completion.partition(ending)
    else:  # the thought may speak of the marker
        before, marker, after = completion.rpartition(ending)
        text = marker + after
    if not before.lstrip().startswith(opening):
        return "", completion
    return before.lstrip().removeprefix(opening).strip(), text.lstrip()


def _assistant_without(content: str, form: _Format, names: dict[str, str]) -> str:
    """A demo's answer without its thought."""
    return _split(content, form, names)[1]


def _user_without(content: str, form: _Format, names: dict[str, str]) -> str:
    """A question whose reminder leaves the thought out."""
    return content.replace(form.in_reminder.format(**names), "", 1)


def _system_without(content: str, form: _Format, names: dict[str, str]) -> str:
    """The instructions without the thought, in the list of fields and in the structure."""
    content = content.replace(form.in_structure.format(**names), "", 1)
    before, heading, after = content.partition(_OUTPUT_FIELDS)
    fields, structure, rest = after.partition(_STRUCTURE)
    fields = re.sub(rf"\A1\. `{names['thought']}` .*?\n(?=2\. `)", "", fields, flags=re.DOTALL)
    fields = re.sub(r"(?m)^(\d+)(?=\. `)", lambda number: str(int(number[1]) - 1), fields)
    return before + heading + fields + structure + rest
