"""How an attempt that is not accepted goes back to the model: as two more turns of the conversation."""

from typing import Any

import dspy
from dspy.adapters import Adapter

_KEPT = 2000  # characters of the failed attempt that the model sees again


def turns(adapter: Adapter, signature: type[dspy.Signature], attempt: str, feedback: str) -> list[dict[str, Any]]:
    """The turns that follow the prompt when an attempt failed.

    Args:
        adapter: the adapter that formats the call; its own reminder of the format closes the turn.
        signature: the predictor's signature.
        attempt: the text of the failed attempt; a long one is cut.
        feedback: what to change, one message a line.

    Returns:
        An assistant's message (the attempt) and a user's message (the feedback).
    """
    text = attempt if len(attempt) <= _KEPT else f"{attempt[:_KEPT]} …"
    text = text or "(nothing)"  # some servers refuse an empty message
    asked = f"This answer is not accepted yet:\n{feedback}\nWrite the whole answer again, corrected."
    reminder = getattr(adapter, "user_message_output_requirements", None)
    if reminder is not None:
        asked += f"\n\n{reminder(signature)}"
    return [{"role": "assistant", "content": text}, {"role": "user", "content": asked}]
