"""Items of a history as turns of the conversation: each is an input that the user has answered.

Chat models are trained on turns. A small one follows them where it only copies out of a list of the same items.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.adapters import Adapter
from dspy.adapters.utils import parse_value

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.values.neutral import json_line

LABEL = "label"  # stands for the label of an item, not for a field of its text
NOTE = (
    "The turns before the last message are items of the history, each after its number, with what the user answered. "
    "The answer to the last message has all output fields."
)


@dataclass(frozen=True)
class ItemTurns:
    """How the items of a signature's profile read as turns.

    Args:
        profile: the input with the history.
        fields: the field of an item that stands for a field of the signature, by the latter's name; `LABEL` for its
            label.
    """

    profile: str
    fields: Mapping[str, str]

    def check(self, signature: type[dspy.Signature]) -> None:
        """ConfigError unless the fields name an input of the signature, beside the profile, and an output."""
        inputs = [name for name in signature.input_fields if name != self.profile]
        for name in self.fields:
            if name not in inputs and name not in signature.output_fields:
                known = ", ".join([*inputs, *signature.output_fields])
                raise ConfigError(f"turns name {name!r}, which is no input or output; name some of {known}")
        if not any(name in inputs for name in self.fields) or not self._outputs(signature):
            raise ConfigError('a turn is an input and an output: name both, as in turns={"body": "text", …: "title"}')

    def fit(self, signature: type[dspy.Signature]) -> bool:
        """Whether prompts of this signature can have the turns."""
        return self.profile in signature.input_fields and all(name in signature.fields for name in self.fields)

    def of(
        self, adapter: Adapter, signature: type[dspy.Signature], inputs: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], Profile]:
        """The messages of a prompt's turns, and the items that are none, which lack a field or have an unknown label.

        The first item is the most similar to the question, so its turn is the last. What a turn has no place for, such
        as a date, stands before it in the form of the list.
        """
        messages: list[dict[str, Any]] = []
        rest: list[Item] = []
        outputs = self._outputs(signature)
        for item in Profile.of(inputs.get(self.profile)):
            try:
                values = self._values(signature, item)
            except (LookupError, TypeError, ValueError):
                rest.append(item)
                continue
            given = {name: value for name, value in values.items() if name not in outputs}
            answered = {name: values[name] for name in outputs}
            user = adapter.format_user_message_content(signature, given, prefix=self._head(item))
            answer = adapter.format_assistant_message_content(signature, answered)
            messages = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}, *messages]
        return messages, Profile(items=rest)

    def _outputs(self, signature: type[dspy.Signature]) -> list[str]:
        return [name for name in self.fields if name in signature.output_fields]

    def _values(self, signature: type[dspy.Signature], item: Item) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, field in self.fields.items():
            text = item.label if field == LABEL else item.fields[field]
            if text is None or not text.strip():
                raise ValueError(f"item {item.id} has no {field}")
            values[name] = parse_value(text, signature.fields[name].annotation)
        return values

    def _head(self, item: Item) -> str:
        """The line of the list that an item would have, without what its turn says."""
        shown = {*self.fields.values()}
        row = {"item": item.id, **{name: text for name, text in item.fields.items() if name not in shown}}
        row |= {LABEL: item.label} if item.label is not None and LABEL not in shown else {}
        return json_line(row | ({"date": item.date} if item.date is not None else {}))
