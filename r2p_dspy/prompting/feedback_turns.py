"""The turns that send a failed attempt back to the model with feedback."""

from typing import Any

import dspy
from dspy.adapters import Adapter

_KEPT = 2000  # characters of the failed attempt that the model sees again


def turns(adapter: Adapter, signature: type[dspy.Signature], attempt: str, feedback: str) -> list[dict[str, Any]]:
    """An assistant's message (the failed attempt) and a user's (the feedback, and the adapter's format reminder)."""
    text = attempt if len(attempt) <= _KEPT else f"{attempt[:_KEPT]} …"
    text = text or "(nothing)"  # some servers refuse an empty message
    request = f"This answer is not accepted yet:\n{feedback}\nWrite the whole answer again, corrected."
    reminder = getattr(adapter, "user_message_output_requirements", None)
    if reminder is not None:
        request += f"\n\n{reminder(signature)}"
    return [{"role": "assistant", "content": text}, {"role": "user", "content": request}]
