"""The calls that a program makes for one example, as they went to the model and came back."""

import threading
from dataclasses import dataclass
from typing import Any

from dspy.utils.callback import BaseCallback

from r2p_dspy.values.media import text_and_media

Message = tuple[str, str]  # role and text


@dataclass
class Call:
    """One call of a model.

    Args:
        messages: the prompt.
        text: what the model wrote; of several completions the first.
        thought: its thought, where that comes apart from the text.
        error: the kind of the exception, if the call failed.
    """

    messages: list[Message]
    text: str = ""
    thought: str = ""
    error: str = ""


class CallLog(BaseCallback):
    """A DSPy callback that keeps every call, in the order in which they began; media become a short mark."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}
        self._lock = threading.Lock()  # candidates are sampled in threads

    @property
    def calls(self) -> list[Call]:
        """The calls so far."""
        return [*self._calls.values()]

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        messages = inputs.get("messages") or [{"role": "user", "content": inputs.get("prompt")}]
        call = Call([(str(message["role"]), _text(message["content"])) for message in messages])
        with self._lock:
            self._calls[call_id] = call

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        call = self._calls.get(call_id)
        if call is None:
            return
        if exception is not None:
            call.error = type(exception).__name__
            return
        output = outputs[0] if isinstance(outputs, list) and outputs else outputs
        if isinstance(output, dict):
            call.text, call.thought = (_text(output.get(name)) for name in ("text", "reasoning_content"))
        else:
            call.text = _text(output)


def _text(content: Any) -> str:
    """The text of a message or an answer."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    try:
        text, media = text_and_media(content)
    except (AttributeError, TypeError):  # a provider's own type
        return str(content)
    return text + "[medium]" * media
