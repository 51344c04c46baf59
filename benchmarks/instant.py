"""A model that answers at once, or after some seconds, in any process: to measure what is around a model."""

import json
import re
import time
from dataclasses import dataclass, replace
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, TextPart

from benchmarks.overhead import _ANSWER, Instant
from programs.runs.model import ModelConfig


class Citing(Instant):
    """An engine that cites the first item that it is shown.

    Args:
        seconds: until it answers.
    """

    def __init__(self, seconds: float = 0.0):
        super().__init__("")
        self.seconds = seconds

    def complete(self, request: Request) -> Response:
        time.sleep(self.seconds)
        item = json.loads(re.findall(r'^\{"item": "1".*$', request.messages[-1].text or "", re.MULTILINE)[-1])
        quote = " ".join(item["description"].split()[:3])
        text = _ANSWER.format(quote=quote, label=item["label"])
        return replace(self.response, message=Message.assistant([TextPart(text)]))


@dataclass(frozen=True)
class InstantModel(ModelConfig):
    """The config of such a model, for commands that are called in Python."""

    name: str = "openai/instant"
    seconds: float = 0.0

    def connect(self, **_: Any) -> dspy.LM:
        return dspy.LM("instant/citing", engine=Citing(self.seconds), cache=False, num_retries=0)
