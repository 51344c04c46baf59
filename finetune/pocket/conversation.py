"""A conversation, as turns and as tokens with a mask of those to learn."""

from dataclasses import dataclass
from typing import Any, NamedTuple

OUTSIDE = -100  # the item of a token outside all items; cross-entropy ignores it


@dataclass(frozen=True)
class Turn:
    """One message."""

    role: str
    content: str
    learn: bool = False  # of a user's turn, the model learns the items' labels
    given: str = ""  # the beginning that is there already, and not learned


class Encoded(NamedTuple):
    """A conversation in tokens."""

    ids: list[int]
    learn: list[bool]  # whether the model learns to write a token
    items: list[int]  # the token of the id of a token's item, or `OUTSIDE`


def encode(tokenizer: Any, row: list[Turn]) -> Encoded:
    """Encode a conversation.

    The model learns the answers with their end marker, and the labels in the histories. From labels it learns which
    label a text suggests to anyone, and how one user's labels belong together.
    """
    encoded = Encoded([], [], [])
    opening = {tokenizer.convert_tokens_to_ids(joint) for joint in ('{"item": "', '"}\n{"item": "')}
    closing, label = (tokenizer.convert_tokens_to_ids(joint) for joint in ('"}', '", "label": "'))
    for turn in row:
        given, content = (
            tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []
            for text in (turn.given, turn.content)
        )
        text = given + content
        encoded.ids.extend([tokenizer.convert_tokens_to_ids(f"<|{turn.role}|>"), *text, tokenizer.eos_token_id])
        item, previous, inside, in_label, labelling = OUTSIDE, OUTSIDE, [], [], False
        for token in text:
            if token in opening or token == closing:
                item, labelling = OUTSIDE, False
            inside.append(item)
            in_label.append(labelling)
            if previous in opening:
                item = token
            labelling = labelling or token == label
            previous = token
        answered = turn.learn and turn.role == "assistant"
        learned = in_label if turn.learn and turn.role == "user" else [False] * len(given) + [answered] * len(content)
        encoded.learn.extend([False, *learned, answered])
        encoded.items.extend([OUTSIDE, *(inside if turn.role == "user" else [OUTSIDE] * len(text)), OUTSIDE])
    return encoded
