"""`/v1/feedback` and `/v1/users`: what users say of answers, what is added to their histories, and forgetting them."""

import asyncio
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from programs.feedback.answers import Answers, Feedback, checked_feedback
from programs.serve.problems import Problem, validation_problem
from programs.serve.schemas import User, as_json, repaired
from programs.serve.service import Service
from programs.serve.tokens import in_tenant
from programs.tasks.task import unknown
from r2p_dspy import Profile
from r2p_dspy.errors import ConfigError
from r2p_dspy.stores.rows import items_of
from r2p_dspy.values.typed import as_text, read

_NO_STORE = "this service has no store; start it with --store URL"
_UserPath = Annotated[User, Path()]


class FeedbackRequest(BaseModel):
    """What a user says of an answer: one of the three, or several."""

    model_config = ConfigDict(extra="forbid")

    answer: str = Field(description="the answer's id", min_length=1, max_length=64)
    verdict: Literal["accepted", "rejected"] | None = None
    edited: Any = Field(default=None, description="what the answer should have been, of the type of the output")
    rating: int | None = Field(default=None, ge=1, le=5, strict=True)


class ItemsRequest(BaseModel):
    """Items to add to a user's history."""

    model_config = ConfigDict(extra="forbid")

    items: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)
    program: str | None = Field(
        default=None, description="items have the names of this program's task, as its profiles"
    )


def add_users(app: FastAPI, service: Service) -> None:
    """Add the routes of feedback and users."""

    @app.post("/v1/feedback", status_code=201, tags=["feedback"], summary="Say what became of an answer")
    async def feedback(request: Request, body: FeedbackRequest) -> dict[str, str]:
        if service.answers is None or service.writer is None:
            raise Problem(501, _NO_STORE)
        said = await _feedback(service, service.answers, request.state.tenant, body)
        await service.writer.write(said)
        kinds = {"edited": said.edited is not None, "rating": said.rating is not None, str(said.verdict): said.verdict}
        service.metrics.feedback(*(kind for kind, given in kinds.items() if given))
        return {"answer": said.answer, "status": "kept"}

    @app.post("/v1/users/{user}/items", status_code=201, tags=["users"], summary="Add to a user's history")
    async def add(request: Request, user: _UserPath, body: ItemsRequest) -> dict[str, list[str]]:
        if service.histories is None:
            raise Problem(501, _NO_STORE)
        name, items = in_tenant(request.state.tenant, user), _items(service, body)
        try:
            return {"ids": await asyncio.to_thread(service.histories.store.append, name, items)}
        except ConfigError as error:
            raise Problem(422, str(error)) from None

    @app.delete("/v1/users/{user}", tags=["users"], summary="Forget a user: items, answers, feedback")
    async def forget(request: Request, user: _UserPath) -> dict[str, int]:
        if service.histories is None:
            raise Problem(501, _NO_STORE)
        return await service.delete_user(in_tenant(request.state.tenant, user))


async def _feedback(service: Service, answers: Answers, tenant: str, body: FeedbackRequest) -> Feedback:
    """The feedback of a request, checked against its answer."""
    kept = await asyncio.to_thread(answers.get, body.answer)
    if kept is None or kept.tenant != tenant:
        raise Problem(404, f"there is no answer {body.answer[:40]!r}; name the id that an answer came with")
    edited, served = body.edited, service.programs.get(kept.program)
    if edited is not None and served is not None:
        name = served.task.answer
        annotation = served.task.signature.output_fields[name].annotation
        try:
            edited = as_json({name: read(annotation, edited)})[name]
        except (ValueError, TypeError):
            labels = f"one of {', '.join(served.task.labels)}" if served.task.labels else "of the output's type"
            raise Problem(422, f"edited: {as_text(edited)[:100]!r} is no {name}; it must be {labels}") from None
    try:
        return checked_feedback(Feedback(kept.id, body.verdict, edited, body.rating))
    except ConfigError as error:
        raise Problem(422, str(error)) from None


def _items(service: Service, body: ItemsRequest) -> Profile:
    """The items of a request; those without an id get one."""
    entries = [{name: repaired(value) for name, value in item.items()} for item in body.items]
    if body.program is not None:
        if body.program not in service.programs:
            raise Problem(422, unknown("program", body.program[:100], service.programs))
        schemas = service.programs[body.program].schemas
        try:
            entries = [schemas.entry(schemas.item.model_validate(item)) for item in entries]
        except ValidationError as error:
            flaws = [{**flaw, "loc": ("body", "items", *flaw["loc"])} for flaw in error.errors()]
            raise validation_problem(flaws) from None
    try:
        items = items_of(entries)
    except ConfigError as error:
        raise Problem(422, str(error)) from None
    if not items:
        raise Problem(422, "items: none of them has a text")
    return items
