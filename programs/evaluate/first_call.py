"""The first request that a program makes to its model, for whoever wants to read prompts."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from dspy.utils.callback import BaseCallback

Tell = Callable[[Sequence[tuple[str, str]], str], None]


class FirstCall(BaseCallback):
    """A DSPy callback that tells of the first call that is made, once it is answered, and of no other.

    Args:
        tell: takes the messages, each as (role, text), and the answer.
    """

    def __init__(self, tell: Tell):
        self.tell = tell
        self.lock = threading.Lock()
        self.call: str | None = None
        self.messages: list[tuple[str, str]] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        with self.lock:
            if self.call is None:
                self.call = call_id
                asked = inputs.get("messages") or [{"role": "user", "content": inputs.get("prompt")}]
                self.messages = [(str(one["role"]), _text(one["content"])) for one in asked]

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if call_id == self.call:
            answers = outputs if isinstance(outputs, list) else [outputs]
            self.tell(self.messages, "\n".join(map(_text, answers)) if exception is None else f"failed: {exception}")


def _text(content: Any) -> str:
    """A message's content, or an answer, which may consist of parts."""
    if isinstance(content, list):
        return "\n".join(map(_text, content))
    if isinstance(content, dict):
        held = [content[name] for name in ("reasoning_content", "text") if content.get(name)]
        return "\n".join(map(str, held)) or json.dumps(content, default=str)
    return str(content)
