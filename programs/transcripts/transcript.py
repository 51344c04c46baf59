"""The transcript of one example: a line of transcripts/PROGRAM.jsonl, beside its row in results/PROGRAM.jsonl."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, TypedDict

import dspy

from programs.tasks.task import Task
from programs.transcripts.calls import Call
from r2p_dspy import Attempt, Candidate, Details, Profile, R2PPrediction, unshadowed
from r2p_dspy.decoding.monitor import Intervention
from r2p_dspy.explaining.explanation import CitedItem, in_words
from r2p_dspy.prompting.parsing import own_items
from r2p_dspy.values.typed import plain

_STAGE_BEGINS = re.compile(r"\s*(?=\[\[ ## \w|</?\w)")
_NEAR = 16  # characters by which an intervention's place may be off: the tags of a thought are no part of its text


class LoggedCall(TypedDict):
    """A call of the model.

    `repeats` is how many messages of the call before begin its prompt; `messages` are the others. `attempt` is its
    number among the attempts, from 1, or among those of a `candidate`; None for another call. `accepted` says whether
    it became the answer, or that candidate's. `unmet` are the checks that it failed. An intervention says `at` which
    character of the thought and the text, written one after the other, it came, in UTF-16 units.
    """

    repeats: int
    messages: list[tuple[str, str]]
    thought: str
    text: str
    error: str
    candidate: int | None
    attempt: int | None
    accepted: bool
    unmet: list[dict[str, str]]
    interventions: list[dict[str, Any]]


class Transcript(TypedDict):
    """What a reader wants to see of an example.

    `items` are the user's own items that the model saw, by their numbers in the prompt; `cited` says where in them the
    quotes stand. Values of unknown type are JSON.
    """

    id: Any
    user: str | None
    question: dict[str, str]
    outputs: dict[str, str]
    reasoning: dict[str, Any]
    items: list[dict[str, Any]]
    cited: list[dict[str, Any]]
    preferences: list[dict[str, Any]]
    corrections: list[str]
    candidates: list[dict[str, Any]]
    decision: str
    unmet: list[str]
    warnings: list[str]
    calls: list[LoggedCall]


def transcript_of(
    example: dspy.Example, task: Task, prediction: dspy.Prediction, calls: Sequence[Call], attempts: Sequence[Attempt]
) -> Transcript:
    """The transcript of a program's answer to an example.

    Args:
        example: one of the task's.
        task: names the inputs.
        prediction: what the program returned; empty if it failed.
        calls: what it asked the model, in order.
        attempts: those behind the prediction.
    """
    details = prediction.details if isinstance(prediction, R2PPrediction) else Details()
    told = details.explanation()
    tries: dict[int | None, Sequence[Attempt]] = {None: attempts}
    if details.candidates:
        tries = {number: candidate.attempts for number, candidate in enumerate(details.candidates, start=1)}
    return {
        "id": example.id,
        "user": example.get("user"),
        "question": {name: in_words(example[name]) for name in task.inputs if example.get(name) is not None},
        "outputs": {name: in_words(value) for name, value in prediction.items()},
        "reasoning": {name: plain(value) for name, value in details.reasoning.stages.items()},
        "items": [*_items(details)],
        "cited": [_cited(cited) for cited in told.cited],
        "preferences": [vars(preference) for preference in told.preferences],
        "corrections": [f"{correction.when}: {correction.message}" for correction in told.corrections],
        "candidates": [_candidate(candidate) for candidate in details.candidates],
        "decision": told.decision,
        "unmet": [*told.unmet],
        "warnings": [*told.warnings],
        "calls": _logged(calls, tries),
    }


def _items(details: Details) -> Iterator[dict[str, Any]]:
    shown: Profile = unshadowed(details.inputs).items
    own = own_items(details.inputs)
    for item in shown:
        whole = own.get(item.id, item)
        yield {
            "number": item.id,
            "id": item.ref or item.id,
            "label": whole.label,
            "date": whole.date,
            "fields": whole.fields,
        }


def _cited(cited: CitedItem) -> dict[str, Any]:
    fields = {} if cited.item is None else cited.item.fields
    marks = {name: [_in_utf16(fields[name], span) for span in spans] for name, spans in cited.marks.items()}
    return {"id": cited.id, "known": cited.item is not None, "marks": marks, "missing": [*cited.missing]}


def _in_utf16(text: str, span: tuple[int, int]) -> list[int]:
    """A span in UTF-16 units, in which a browser counts characters."""
    return [len(text[:place].encode("utf-16-le", "surrogatepass")) // 2 for place in span]


def _candidate(candidate: Candidate) -> dict[str, Any]:
    answer = ", ".join(map(in_words, candidate.answer.values()))
    return {"answer": answer, **candidate.model_dump(include={"survives", "support", "chosen", "error"})}


def _logged(calls: Sequence[Call], tries: Mapping[int | None, Sequence[Attempt]]) -> list[LoggedCall]:
    """Calls with what became of them; `tries` are the attempts of each candidate by its number, from 1."""
    logged: list[LoggedCall] = []
    before: list[tuple[str, str]] = []
    for call in calls:
        repeats = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, call.messages)))
        before = call.messages
        entry: LoggedCall = {
            "repeats": repeats,
            "messages": call.messages[repeats:],
            "thought": call.thought,
            "text": call.text,
            "error": call.error,
            "candidate": None,
            "attempt": None,
            "accepted": False,
            "unmet": [],
            "interventions": [],
        }
        logged.append(entry)
    for candidate, attempts in tries.items():
        _add_attempts(logged, candidate, attempts)
    return logged


def _add_attempts(logged: Sequence[LoggedCall], candidate: int | None, attempts: Sequence[Attempt]) -> None:
    """Write what became of each attempt to the call that made it: the first one with its text."""
    number, corrected = 0, list[Intervention]()
    for attempt in attempts:
        if attempt.interventions:  # the attempt as it would have been; the next one has the text
            corrected = attempt.interventions
            continue
        number += 1
        text = attempt.completion.strip()
        of_attempt = (call for call in logged if call["attempt"] is None and call["text"].strip() == text)
        if (call := next(of_attempt, None)) is not None:
            call["candidate"], call["attempt"], call["accepted"] = candidate, number, attempt.accepted
            call["unmet"] = [
                verdict.model_dump(include={"check", "message"}) for verdict in attempt.unmet if verdict.message
            ]
            whole = call["thought"] + call["text"]
            call["interventions"] = [_intervention(whole, intervention) for intervention in corrected]
        corrected = []


def _intervention(text: str, intervention: Intervention) -> dict[str, Any]:
    begins = [match.start() for match in _STAGE_BEGINS.finditer(text) if abs(match.start() - intervention.at) <= _NEAR]
    at = min(begins, key=lambda place: abs(place - intervention.at), default=min(intervention.at, len(text)))
    return {**intervention.model_dump(), "at": _in_utf16(text, (at, at))[0]}
