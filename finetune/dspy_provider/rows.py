"""The rows that DSPy exports for training, as the model is asked and answers when the program runs.

On the thinking carrier DSPy writes a row as if the thought were one more output field. When the program runs, the field
is not in the prompt, `Reason` adds the steps to the instructions, and the thought stands between `<think>` tags.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from r2p_dspy.errors import ConfigError
from r2p_dspy.prompting import tags
from r2p_dspy.prompting.signature import STEPS
from r2p_dspy.template import TEMPLATE, Template

Message = Mapping[str, str]

# Only a field of type `dspy.Reasoning` is called a Python str: where a field is one, the chat adapter says nothing.
_ASKED = re.compile(
    r"starting with the field `\[\[ ## (?P<thought>\w+) ## \]\]` \(must be formatted as a valid Python str\), then "
    r"`\[\[ ## (?P<answer>\w+) ## \]\]`"
)
_ASKED_IN_XML = re.compile(r"Respond with the corresponding output fields wrapped in XML tags [^\n]*\Z")


@dataclass(frozen=True)
class Row:
    """One call to learn from.

    Args:
        prompt: its messages, the last one a user's.
        completion: what is to be written.
        thinks: whether it begins with a thought, between `<think>` tags.
    """

    prompt: list[dict[str, str]]
    completion: str
    thinks: bool = False

    @property
    def answer(self) -> list[dict[str, str]]:
        """The completion as a message."""
        return [{"role": "assistant", "content": self.completion}]


def normalize_exported_row(
    prompt: Sequence[Message], completion: str, *, thinks: bool, template: Template = TEMPLATE
) -> Row:
    """A row of DSPy's as the call that it stands for; one without a thought stays as it is.

    Args:
        prompt: its messages without the answer.
        completion: the answer.
        thinks: whether the model has thoughts of its own; otherwise a thought is a field when the program runs, too.
        template: by which thoughts are led.

    Returns:
        The row. A blank end of the completion, which DSPy's adapters write and models do not, is left out.

    Raises:
        ValueError: for the XML adapter's row of a program that thinks by the template.

    Example:
        >>> asked = "starting with the field `[[ ## reasoning ## ]]` (must be formatted as a valid Python str), then "
        >>> row = [{"role": "user", "content": asked + "`[[ ## tag ## ]]`"}]
        >>> written = "[[ ## reasoning ## ]]\\nSea.\\n\\n[[ ## tag ## ]]\\nsad\\n"
        >>> normalize_exported_row(row, written, thinks=True).completion
        '<think>\\nSea.\\n</think>\\n\\n[[ ## tag ## ]]\\nsad'
    """
    messages, completion = [dict(message) for message in prompt], completion.rstrip()
    if in_xml(messages) and f"(str): {STEPS}" in messages[0]["content"]:
        raise ConfigError("of thoughts only the chat adapter's rows can be read: use dspy.ChatAdapter, or no adapter")
    asked = _ASKED.search(messages[-1]["content"])
    if asked is None:
        return Row(messages, completion)
    name, answer = asked["thought"], asked["answer"]
    thought, text = _parted(completion, name, answer)
    if f"`{name}` (str): {STEPS}" in messages[0]["content"]:
        system, *_, question = messages
        system["content"] += f"\n\n{tags.guide(template)}"
        messages = [system, question]  # `Reason` shows no demos on this carrier
    if not thinks:
        return Row(messages, completion)
    for message in messages:
        message["content"] = _without(message["content"], name, answer, message["role"])
    return Row(messages, f"<think>\n{thought}\n</think>\n\n{text}" if thought else text, bool(thought))


def in_xml(prompt: Sequence[Message]) -> bool:
    """Whether a prompt asks for an answer in the XML adapter's format."""
    return bool(_ASKED_IN_XML.search(prompt[-1]["content"]))


def _parted(completion: str, name: str, answer: str) -> tuple[str, str]:
    """The thought, and what follows it."""
    before, mark, after = completion.rpartition(f"[[ ## {answer} ## ]]\n")
    opening = f"[[ ## {name} ## ]]"
    if not before.lstrip().startswith(opening):
        return "", completion  # an answer that could not be read: DSPy hands over its visible text alone
    return before.lstrip().removeprefix(opening).strip(), mark + after


def _without(content: str, name: str, answer: str, role: str) -> str:
    """A message without the field of the thought."""
    mark = f"[[ ## {name} ## ]]"
    if role == "assistant":
        return _parted(content, name, answer)[1]
    if role == "user":
        return content.replace(f"`{mark}` (must be formatted as a valid Python str), then ", "", 1)
    content = content.replace(f"{mark}\n{{{name}}}\n\n", "", 1)
    before, heading, after = content.partition("Your output fields are:\n")
    fields, structure, rest = after.partition("\nAll interactions will be structured")
    fields = re.sub(rf"\A1\. `{name}` .*?\n(?=2\. `)", "", fields, flags=re.DOTALL)
    fields = re.sub(r"(?m)^(\d+)(?=\. `)", lambda number: str(int(number[1]) - 1), fields)
    return before + heading + fields + structure + rest
