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
from r2p_dspy.errors import ConfigError
from r2p_dspy.prompting import tags
from r2p_dspy.prompting.signature import STEPS
from r2p_dspy.template import TEMPLATE, Template

Message = Mapping[str, str]

# The chat adapter's reminder, where the first output field is a thought. Only a field of type `dspy.Reasoning` is
# called a Python str: for a field of type str the adapter says nothing.
_THOUGHT_TYPE = " (must be formatted as a valid Python str), then "
_REMINDER = re.compile(
    r"starting with the field `\[\[ ## (?P<thought>\w+) ## \]\]`"
    + re.escape(_THOUGHT_TYPE)
    + r"`\[\[ ## (?P<answer>\w+) ## \]\]`"
)
_XML_REMINDER = re.compile(r"Respond with the corresponding output fields wrapped in XML tags [^\n]*\Z")
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

    Raises:
        ConfigError: the XML adapter wrote a row of a program that thinks by the template.

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
    if asks_for_xml(messages) and f"(str): {STEPS}" in messages[0]["content"]:
        raise ConfigError("only the chat adapter's rows of thoughts can be read: use dspy.ChatAdapter, or no adapter")
    reminder = _REMINDER.search(messages[-1]["content"])
    if reminder is None:
        return TrainingCall(messages, completion)
    name, answer = reminder["thought"], reminder["answer"]
    if f"`{name}` (str): {STEPS}" in messages[0]["content"]:
        system, *_demos, question = messages
        system["content"] += f"\n\n{tags.guide(template)}"
        messages = [system, question]
    if not thinks:
        return TrainingCall(messages, completion)
    edit = {"user": _user_without, "assistant": _assistant_without}
    for message in messages:
        message["content"] = edit.get(message["role"], _system_without)(message["content"], name, answer)
    thought, text = _split(completion, name, answer)
    if not thought:
        return TrainingCall(messages, text)
    return TrainingCall(messages, f"{OPEN}\n{thought}\n{CLOSE}\n\n{text}", thinks=True)


def asks_for_xml(prompt: Sequence[Message]) -> bool:
    """Whether a prompt asks for an answer in the XML adapter's format."""
    return bool(_XML_REMINDER.search(prompt[-1]["content"]))


def _split(completion: str, name: str, answer: str) -> tuple[str, str]:
    """The thought, and the rest of a completion; no thought in an unreadable answer, which DSPy exports as it is."""
    before, marker, after = completion.rpartition(f"[[ ## {answer} ## ]]\n")
    opening = f"[[ ## {name} ## ]]"
    if not before.lstrip().startswith(opening):
        return "", completion
    return before.lstrip().removeprefix(opening).strip(), marker + after


def _assistant_without(content: str, name: str, answer: str) -> str:
    """A demo's answer without its thought."""
    return _split(content, name, answer)[1]


def _user_without(content: str, name: str, answer: str) -> str:
    """A question whose reminder leaves the thought out."""
    return content.replace(f"`[[ ## {name} ## ]]`{_THOUGHT_TYPE}", "", 1)


def _system_without(content: str, name: str, answer: str) -> str:
    """The instructions without the thought, in the list of fields and in the structure."""
    content = content.replace(f"[[ ## {name} ## ]]\n{{{name}}}\n\n", "", 1)
    before, heading, after = content.partition(_OUTPUT_FIELDS)
    fields, structure, rest = after.partition(_STRUCTURE)
    fields = re.sub(rf"\A1\. `{name}` .*?\n(?=2\. `)", "", fields, flags=re.DOTALL)
    fields = re.sub(r"(?m)^(\d+)(?=\. `)", lambda number: str(int(number[1]) - 1), fields)
    return before + heading + fields + structure + rest
