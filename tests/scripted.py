"""A language model that says what it is told to: for faults, and for counting what it was asked."""

import json
import re
import threading

import dspy
from dspy.lm15 import Message, Response, TextPart, ThinkingPart, Usage


class ScriptedEngine:
    """A DSPy engine with prepared completions.

    Args:
        texts: one a call, the last one again and again; a pair is a thought and an answer; an exception is raised; a
            function is called with the request.
        attributes: what an engine may tell of itself, such as `context_window` and `count_tokens`.
    """

    def __init__(self, *texts, **attributes):
        self.texts = list(texts)
        self.__dict__.update(attributes)
        self.requests = []
        self.lock = threading.Lock()

    def complete(self, request):
        with self.lock:
            self.requests.append(request)
            text = self.texts[0] if len(self.texts) == 1 else self.texts.pop(0)
        if callable(text) and not isinstance(text, type):
            text = text(request)
        if isinstance(text, Exception):
            raise text
        usage = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
        parts = [TextPart(text)] if isinstance(text, str) else [ThinkingPart(text[0]), TextPart(text[1])]
        message = Message.assistant(parts)
        return Response(id=None, model="test", message=message, finish_reason="stop", usage=usage)

    def close(self):
        pass

    def prompts(self):
        """Each call's messages as one text."""
        return ["\n".join(message.text or "" for message in request.messages) for request in self.requests]


class AsyncScriptedEngine:
    """The same engine for DSPy's async calls."""

    def __init__(self, engine):
        self.engine = engine

    async def complete(self, request):
        return self.engine.complete(request)

    async def aclose(self):
        pass


STAGES = {
    "requirements": "a tag for the lighthouse film",
    "evidence": '[{"item": "1", "quote": "a lighthouse"}]',
    "preferences": '[{"statement": "lighthouses are sad", "items": ["1"], "label": "romance"}]',
    "draft": "romance",
    "verification": '{"approved": true, "reason": "item 1"}',
    "tag": "romance",
}


def written(**fields):
    """An answer with these fields in the format of the adapter in use: texts, or values; None leaves a field out."""
    fields = {name: value for name, value in fields.items() if value is not None}
    adapter = dspy.settings.adapter
    if isinstance(adapter, dspy.JSONAdapter):
        return json.dumps({name: _typed(name, value) for name, value in fields.items()}, ensure_ascii=False)
    if isinstance(adapter, dspy.XMLAdapter):
        return "\n\n".join(xml_field(name, _typed(name, value)) for name, value in fields.items())
    return "\n\n".join(
        [*(f"[[ ## {name} ## ]]\n{_text(value)}" for name, value in fields.items()), "[[ ## completed ## ]]"]
    )


def completion(**changes):
    """A completion of the film signature in the format of the adapter in use; a field given as None is left out."""
    return written(**{**STAGES, **changes})


def wanted(request):
    """The names of the fields that a request asks for."""
    return re.findall(r"`(?:\[\[ ## |<)?(\w+)(?: ## ]]|>)?`", request.messages[-1].text)


def opening(name):
    """What the adapter in use has before the value of a field."""
    if isinstance(dspy.settings.adapter, dspy.JSONAdapter):
        return f'"{name}":'
    return f"<{name}>" if isinstance(dspy.settings.adapter, dspy.XMLAdapter) else f"[[ ## {name} ## ]]"


def ending(name):
    """The mark at which the adapter in use ends a stage of the film signature; JSON has none."""
    names = [*STAGES]
    in_xml = isinstance(dspy.settings.adapter, dspy.XMLAdapter)
    return f"</{name}>" if in_xml else opening(names[names.index(name) + 1])


def after(name, text):
    """What a completion says from the value of a field on."""
    return text.partition(opening(name))[2].lstrip()


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)


def _typed(name, text):
    """The value of a JSON object or list, if the field is no text; anything else as it is."""
    if name in ("requirements", "draft") or not str(text).lstrip().startswith(("[", "{")):
        return text
    try:
        return json.loads(text) if isinstance(text, str) else text
    except (json.JSONDecodeError, RecursionError):
        return text


def xml_field(name, value):
    """A field as DSPy's XML adapter writes it."""
    return _element(name, value if isinstance(value, list | dict) else f"\n{value}\n")


def _element(name, value):
    if isinstance(value, list):
        return f"<{name}>{''.join(_element('item', entry) for entry in value)}</{name}>"
    if isinstance(value, dict):
        return f"<{name}>{''.join(_element(key, entry) for key, entry in value.items())}</{name}>"
    if value is None:
        return f"<{name} />"
    return f"<{name}>{str(value).replace('&', '&amp;').replace('<', '&lt;')}</{name}>"


def tagged(prompt, tag):
    """A completion in every format of the film task: the tag, with the first item of the prompt as its evidence."""
    shown = [json.loads(line) for line in prompt.splitlines() if line.startswith('{"item": "1"')]
    evidence = [{"item": "1", "quote": item["description"]} for item in shown]
    preferences = [{"statement": "tags so", "items": ["1"]} for _ in shown]
    said = {"evidence": json.dumps(evidence), "preferences": json.dumps(preferences), "draft": tag, "tag": tag}
    return completion(**{"reasoning": "hm", **STAGES, **said})
