"""The first request of a program to its model, for `--verbose`."""

import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

from dspy.utils.callback import BaseCallback

Show = Callable[[Sequence[tuple[str, str]], str], None]  # takes (role, text) of each message, and the answer


class FirstCall(BaseCallback):
    """A DSPy callback that shows the first call, once it is answered or has failed, and no other call."""

    def __init__(self, show: Show):
        self.show = show
        self.lock = threading.Lock()
        self.call: str | None = None
        self.messages: list[tuple[str, str]] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        with self.lock:
            if self.call is None:
                self.call = call_id
                messages = inputs.get("messages") or [{"role": "user", "content": inputs.get("prompt")}]
                self.messages = [(str(message["role"]), _text(message["content"])) for message in messages]

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        if call_id == self.call:
            answers = outputs if isinstance(outputs, list) else [outputs]
            self.show(self.messages, "\n".join(map(_text, answers)) if exception is None else f"failed: {exception}")


def _text(content: Any) -> str:
    """The text of a message or an answer; either may be a list of parts."""
    if isinstance(content, list):
        return "\n".join(map(_text, content))
    if isinstance(content, dict):
        texts = [content[name] for name in ("reasoning_content", "text") if content.get(name)]
        return "\n".join(map(str, texts)) or json.dumps(content, default=str)
    return str(content)
