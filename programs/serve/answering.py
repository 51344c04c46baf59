"""One call of a program: the history, the answer within its time, the record; it ends when its client goes away."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.types import Receive

from programs.feedback.answers import Answer
from programs.feedback.rows import in_task_names
from programs.feedback.writing import Writer
from programs.predict.parts import evidence_of, preferences_of, usage_of, violations_of
from programs.serve.problems import CLIENT_GONE, Problem
from programs.serve.schemas import as_json
from programs.serve.served import ServedProgram
from programs.serve.tokens import in_tenant
from r2p_dspy import Profile

_Result = TypeVar("_Result")
_NO_STORE = 'this service has no store of users; send a "profile" instead'

_UNKNOWN = (
    "the store has nothing of the user {!r}: add to the history with POST /v1/users/USER/items, or send a "
    '"profile"; a service with --unknown-users answer answers all the same'
)


@dataclass(frozen=True)
class Asked:
    """A request, read.

    Args:
        served: what is asked.
        tenant: who asks.
        inputs: the program's inputs without the profile.
        user: as the client names them; None for nobody.
        profile: the history that was sent along; None for the store's.
        refuses_unknown: a user of whom the store has nothing is a problem.
    """

    served: ServedProgram
    tenant: str
    inputs: dict[str, Any]
    user: str | None
    profile: Profile | None
    refuses_unknown: bool = True


async def answer(asked: Asked, writer: Writer | None, timeout: float) -> dict[str, Any]:
    """Answer a request, and keep the answer.

    Args:
        asked: the request.
        writer: keeps answers for feedback; None keeps none.
        timeout: seconds.

    Raises:
        Problem: for the client.
        R2PError, LMError: what `problem_of` makes problems of.
    """
    try:
        async with asyncio.timeout(timeout):
            body, kept = await _answer(asked)
    except TimeoutError:
        raise Problem(504, f"no answer within {timeout:g} seconds; try again later") from None
    if writer is not None:
        await writer.write(kept)
    return body


async def _answer(asked: Asked) -> tuple[dict[str, Any], Answer]:
    served, program = asked.served, asked.served.program
    user = None if asked.user is None else in_tenant(asked.tenant, asked.user)
    profile, warnings = asked.profile, list[str]()
    if profile is None:
        if program.histories is None:
            raise Problem(422, _NO_STORE)
        assert user is not None  # requests without both are refused when they are read
        history = await program.histories.aread(user, program.query_of(asked.inputs))
        if asked.refuses_unknown and not history.size:
            raise Problem(404, _UNKNOWN.format(str(asked.user)[:100]))
        profile, warnings = history.items, history.warnings
    with served.asking() as usage:
        prediction = await program.acall(**asked.inputs, **{served.task.profile: profile})
    details = prediction.details
    if details.unreadable is not None:
        raise Problem(502, f"the model's answer cannot be read ({details.unreadable.cause}); try again")
    outputs = as_json({name: prediction[name] for name in program.reason.answers})
    newest = profile[-1].id if asked.profile is None and profile else None
    sent = None if asked.profile is None else in_task_names(served.task, profile)
    inputs = as_json(asked.inputs)
    kept = Answer(asked.tenant, served.name, served.task.name, user, inputs, outputs, profile=sent, newest=newest)
    body = {
        "id": kept.id,
        "program": served.name,
        "outputs": outputs,
        "evidence": evidence_of(details),
        "preferences": preferences_of(details),
        "violations": violations_of(details),
        "warnings": [*warnings, *details.warnings],
        "usage": usage_of(usage),
    }
    return body, kept


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Await work, and cancel it when the client goes away, so that the model stops.

    Raises:
        Problem: the client is gone; nobody reads it.
    """
    task, watcher = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Problem(CLIENT_GONE, "the client has gone away")
        return task.result()
    finally:
        watcher.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
