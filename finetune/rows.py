"""Questions as the student's program will ask them, and answers as the student is to write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

from finetune.student import Student
from programs.tasks.task import Task
from r2p_dspy import R2P, Outcome
from r2p_dspy.engines.chat import CLOSE, OPEN, conversation
from r2p_dspy.errors import UnreadableAnswer
from r2p_dspy.outcome import unshadowed
from r2p_dspy.prompting.tags import render


class Asking:
    """What a program sends to its model, without a model.

    Args:
        program: the student's.
        task: that it is for.
        student: whose context and tokens a prompt must fit.
        tokens: of an answer at most, for which a prompt leaves room.
    """

    def __init__(self, program: R2P, task: Task, student: Student, tokens: int):
        self.program, self.task = program, task
        self.cut = 0  # prompts that were shortened to fit
        engine = _Recorder(student, thinks=program.reason.thought is not None)
        self.lm = dspy.LM("recorder/student", engine=engine, cache=False, num_retries=0, max_tokens=tokens)

    def __call__(self, example: dspy.Example) -> dict[str, Any]:
        """A row: the prompt as messages, and what a reward needs to know."""
        kwargs = self.program.retrieve(dict(example.inputs()))
        reason = self.program.reason
        recorded = _Recorded()
        with dspy.context(lm=self.lm, adapter=dspy.ChatAdapter(), recorded=recorded, trace=[], usage_tracker=None):
            try:
                details = reason(**kwargs).details
            except UnreadableAnswer as nothing:
                details = nothing.details
        self.cut += details.truncated_chars > 0
        return {
            "id": str(example.id),
            "task": self.task.name,
            "prompt": recorded.messages,
            "inputs": details.inputs.to_json(),
            "gold": json.dumps(example[self.task.answer], ensure_ascii=False),
        }


def completion(program: R2P, outcome: Outcome) -> str:
    """An outcome as a model is to write it, on the program's carrier: what was accepted, and nothing of how.

    Args:
        program: the student's.
        outcome: that was read, with every stage.
    """
    reason, outcome = program.reason, unshadowed(outcome)
    fields: dict[str, Any] = {name: outcome.fields[name] for name in reason.answers}
    asked, before = reason.signature, ""
    if reason.thought is None:
        fields |= {name: outcome.stages[stage] for stage, name in reason.stages.items()}
    else:
        asked = asked.delete(reason.thought)
        before = f"{OPEN}\n{render(reason.template, outcome.stages)}\n{CLOSE}\n\n"
    outputs = {name: fields[name] for name in asked.output_fields}
    return before + dspy.ChatAdapter().format_assistant_message_content(asked, outputs).rstrip("\n")


@dataclass
class _Recorded:
    messages: list[dict[str, str]] | None = None


class _Recorder:
    """An engine that keeps the messages of a request for whoever asked, and answers nothing."""

    supports_function_calling = False
    supports_response_schema = False
    supported_params = frozenset({"temperature", "max_tokens"})

    def __init__(self, student: Student, thinks: bool):
        self.supports_reasoning = thinks
        self.context_window = student.context
        self.count_tokens = student.chat.count

    def complete(self, request: Request) -> Response:
        dspy.settings.recorded.messages = conversation(request)
        message = Message.assistant([TextPart("nothing")])
        return Response(id=None, model=request.model, message=message, finish_reason="stop", usage=Usage())

    def close(self) -> None:
        """Nothing is open."""
