"""A conversation, as turns and as tokens with those to learn marked."""

from dataclasses import dataclass
from typing import Any, NamedTuple

OUTSIDE = -100  # the item of a token that stands in none: what cross-entropy leaves out


@dataclass(frozen=True)
class Turn:
    """One message.

    Args:
        role: whose.
        content: its text.
        learn: whether the model learns to write it (of a user's, the labels of items).
        given: what stands of it already, and is not learnt.
    """

    role: str
    content: str
    learn: bool = False
    given: str = ""


class Encoded(NamedTuple):
    """A conversation's tokens; which of them the model learns to write; and of each the id of the item it stands in.

    An id is that of its token, and `OUTSIDE` where a token stands in no item.
    """

    ids: list[int]
    learn: list[bool]
    items: list[int]


def encode(tokenizer: Any, row: list[Turn]) -> Encoded:
    """A conversation's tokens.

    Learnt are the answers with the end marker after them, and the labels in the histories: from these the model learns
    the world, that is, which labels a text suggests to anybody, and how one user's labels hang together.
    """
    found = Encoded([], [], [])
    opening = {tokenizer.convert_tokens_to_ids(joint) for joint in ('{"item": "', '"}\n{"item": "')}
    closing, label = (tokenizer.convert_tokens_to_ids(joint) for joint in ('"}', '", "label": "'))
    for turn in row:
        given, content = (
            tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []
            for text in (turn.given, turn.content)
        )
        text = given + content
        found.ids.extend([tokenizer.convert_tokens_to_ids(f"<|{turn.role}|>"), *text, tokenizer.eos_token_id])
        current, before, inside, labels, labelling = OUTSIDE, OUTSIDE, [], [], False
        for token in text:
            if token in opening or token == closing:
                current, labelling = OUTSIDE, False
            inside.append(current)
            labels.append(labelling)
            if before in opening:
                current = token
            labelling = labelling or token == label
            before = token
        answered = turn.learn and turn.role == "assistant"
        learnt = labels if turn.learn and turn.role == "user" else [False] * len(given) + [answered] * len(content)
        found.learn.extend([False, *learnt, answered])
        found.items.extend([OUTSIDE, *(inside if turn.role == "user" else [OUTSIDE] * len(text)), OUTSIDE])
    return found
