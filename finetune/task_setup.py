"""One task of a run: its users, its teacher, the student's program, and the rows that the student trains on."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import dspy
from dspy.lm15 import Message, Request, Response, TextPart, Usage

from finetune.config import FinetuneConfig
from finetune.student import Student
from programs.data.dataset import Data
from programs.data.fitting import task_for
from programs.data.reading import read_examples
from programs.runs.reporter import Reporter
from programs.tasks.program import R2PConfig, build
from programs.tasks.task import Task
from r2p_dspy import R2P, Outcome, load_program
from r2p_dspy.engines.chat import CLOSE, OPEN, conversation
from r2p_dspy.errors import ConfigError
from r2p_dspy.modules.failures import UnreadableAnswer
from r2p_dspy.outcome import unshadowed
from r2p_dspy.prompting.signature import Carrier
from r2p_dspy.prompting.tags import render
from r2p_dspy.values.typed import plain


@dataclass(frozen=True)
class TaskSetup:
    """One task of a run."""

    task: Task
    teacher: R2P
    program: R2P  # the student's
    rows: RowBuilder
    config: R2PConfig
    data: Data

    @classmethod
    def of(cls, name: str, config: FinetuneConfig, carrier: Carrier, student: Student, reporter: Reporter) -> TaskSetup:
        """Set up a task, given by its name or file."""
        task = task_for(name, config.data.source, reporter.say)
        teacher = build(task, config.r2p, seed=config.data.seed, tokens=config.retriever_tokens)
        if config.program is not None:
            load_program(teacher, config.program, task=task.name)
        program = student_program(task, teacher, carrier)
        data = read_examples(task, config.data, reporter.say)
        return cls(task, teacher, program, RowBuilder(program, task, student, config.tokens), config.r2p, data)


def check_names(names: Iterable[str]) -> None:
    """Refuse two tasks of one name, as copies of a task file have: traces, programs and scores are kept by name."""
    seen = set[str]()
    for name in names:
        if name in seen:
            raise ConfigError(f"two tasks are named {name!r}; give each task file another name under `task`")
        seen.add(name)


def student_program(task: Task, teacher: R2P, carrier: Carrier) -> R2P:
    """The program that a student answers for: the teacher's instructions, no demos, one call, no corrections."""
    turns = teacher.reason.turns
    program = R2P(
        task.signature,
        retriever=teacher.retriever,
        checks=task.checks,
        template=teacher.reason.template,
        carrier=carrier,
        quotable=task.quotable,
        turns=None if turns is None else turns.fields,
        max_backtracks=0,
        max_interventions=0,
    )
    signature: Any = teacher.reason.signature
    program.reason.signature = program.reason.signature.with_instructions(signature.instructions)
    return program


def without_demos(teacher: R2P) -> R2P:
    """A copy of a program that shows no demos."""
    copy: R2P = teacher.deepcopy()
    for predictor in copy.predictors():
        predictor.demos = []
    return copy


class RowBuilder:
    """Turns an example into the row that the student's program would send to its model, without calling a model.

    Prompts are shortened to fit the student's context, with room for an answer of `tokens`.
    """

    def __init__(self, program: R2P, task: Task, student: Student, tokens: int):
        self.program, self.task, self._student, self._tokens = program, task, student, tokens
        self.shortened = 0  # prompts that were shortened to fit
        engine = _RecordingEngine(student, thinks=program.reason.thought is not None)
        self.lm = dspy.LM("recorder/student", engine=engine, cache=False, num_retries=0, max_tokens=tokens)

    def __reduce__(self) -> tuple[Any, ...]:  # prompts need the student's tokenizer, not its weights
        return type(self), (self.program, self.task, replace(self._student, model=None), self._tokens)

    def __call__(self, example: dspy.Example) -> dict[str, Any]:
        """A row: the prompt as messages, and what a reward needs to know."""
        kwargs = self.program.retrieve(dict(example.inputs()))
        recorded = _Recorded()
        with dspy.context(lm=self.lm, adapter=dspy.ChatAdapter(), recorded=recorded, trace=[], usage_tracker=None):
            try:
                details = self.program.reason(**kwargs).details
            except UnreadableAnswer as unreadable:
                details = unreadable.details
        self.shortened += details.truncated_chars > 0
        return {
            "id": str(example.id),
            "user": example.get("user"),
            "task": self.task.name,
            "prompt": recorded.messages,
            "inputs": details.inputs.to_json(),
            "gold": json.dumps(plain(example[self.task.gold]), ensure_ascii=False),
        }


def completion_text(program: R2P, outcome: Outcome) -> str:
    """The text that a student is to write for an accepted outcome: this attempt alone, on its carrier."""
    reason, outcome = program.reason, unshadowed(outcome)
    fields: dict[str, Any] = {name: outcome.fields[name] for name in reason.answers}
    signature, thought = reason.signature, ""
    if reason.thought is None:
        fields |= {name: outcome.stages[stage] for stage, name in reason.stages.items()}
    else:
        signature = signature.delete(reason.thought)
        thought = f"{OPEN}\n{render(reason.template, outcome.stages)}\n{CLOSE}\n\n"
    outputs = {name: fields[name] for name in signature.output_fields}
    return thought + dspy.ChatAdapter().format_assistant_message_content(signature, outputs).rstrip("\n")


@dataclass
class _Recorded:
    messages: list[dict[str, str]] | None = None


class _RecordingEngine:
    """An engine that stores a request's messages in DSPy's context, and answers nothing of use."""

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
