"""A model that writes the right answer in the format that the prompt asks for, in this process or on a server.

The film in the prompt says which answer is right: "answer with a date" asks for that value of `TYPES`.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from dspy.adapters.utils import serialize_for_json
from dspy.lm15 import Message, Response, TextPart, ThinkingPart, Usage

from r2p_dspy import TEMPLATE
from r2p_dspy.decoding.steering import generate_steered, next_steer
from r2p_dspy.prompting.tags import render
from r2p_dspy.values.typed import as_text
from tests.endpoint import Reply
from tests.film import fields
from tests.scripted import ScriptedEngine, xml_field
from tests.typed_answers import TYPES

_FIELD = re.compile(r"`(?:\[\[ ## |<)?(\w+)(?: ## ]]|>)?`")


def question(output: str) -> str:
    """The film that asks for the right answer of a type."""
    return f"answer with a {output}."


def right_answer(prompt: str, thinks: bool = False, json_alone: bool = False) -> tuple[str, str | None]:
    """The text that answers a prompt, and the thought beside it.

    Args:
        prompt: system prompt and messages as one text.
        thinks: whether the model thinks natively; the thought is None where it does not, or where the prompt asks for
            the reasoning in the text.
        json_alone: whether it answers in JSON whatever the prompt asks for.
    """
    value = TYPES[re.search(r"answer with a (.+?)\.", prompt)[1]][1]
    stages = fields(draft=as_text(value), preferences=[{"statement": "so", "items": ["1"]}])
    thought = render(TEMPLATE, stages)
    known = {"reasoning": thought, **stages, "tag": serialize_for_json(value)}
    asked = _FIELD.findall(prompt[prompt.rindex("Respond with ") :])
    written = {name: known[name] for name in asked if name in known}
    if json_alone or "Respond with a JSON object" in prompt:
        text = json.dumps(written)
    elif "wrapped in XML tags" in prompt:
        text = "\n\n".join(xml_field(name, value) for name, value in written.items())
    else:
        text = "\n\n".join(f"[[ ## {name} ## ]]\n{_plain(value)}" for name, value in written.items())
        text += "\n\n[[ ## completed ## ]]"
    if not thinks or "reasoning" in asked:
        return text, None
    return text, thought if "Think in these steps" in prompt else "The user says so."


def _plain(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def served(thinks: bool = False, json_alone: bool = False) -> Callable[[dict], Reply]:
    """The model behind a chat API, for `tests.endpoint.Endpoint`."""

    def reply(body: dict) -> Reply:
        prompt = "\n".join(message["content"] for message in body["messages"])
        return Reply.text(*right_answer(prompt, thinks, json_alone))

    return reply


class RightEngine(ScriptedEngine):
    """The model in this process: it thinks, and its answers can be corrected while it writes them."""

    supports_reasoning = True

    def __init__(self) -> None:
        super().__init__("")

    def complete(self, request: Any) -> Response:
        self.requests.append(request)
        prompt = "\n".join([str(request.system), *(message.text or "" for message in request.messages)])
        text, thought = right_answer(prompt, thinks=True)
        if (steer := next_steer()) is not None:
            whole = text if thought is None else f"<think>\n{thought}\n</think>\n\n{text}"
            generate_steered(_Whole(whole), steer)
        parts = [TextPart(text)] if thought is None else [ThinkingPart(thought), TextPart(text)]
        message, usage = Message.assistant(parts), Usage(input_tokens=10, output_tokens=5)
        return Response(id=None, model="test", message=message, finish_reason="stop", usage=usage)


class _Whole(str):
    """A right answer, piece by piece; nothing in it is to be corrected."""

    def __iter__(self) -> Iterator[str]:
        return (self[start : start + 16] for start in range(0, len(self), 16))

    def stop(self) -> None:
        pass

    def resume(self, kept: int, note: str, opening: str) -> None:
        raise AssertionError(f"a right answer is corrected after {self[:kept]!r}: {note}")
