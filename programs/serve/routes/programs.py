"""`/v1/programs`: what there is, and asking it."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import Body, FastAPI, Request
from fastapi.responses import JSONResponse, Response

from programs.serve.answering import Asked, answer, unless_gone
from programs.serve.problems import CLIENT_GONE, Problem, problem_of
from programs.serve.routes.streaming import MEDIA_TYPE as EVENTS
from programs.serve.routes.streaming import EventStream
from programs.serve.served import ServedProgram
from programs.serve.service import Service
from programs.tasks.task import unknown


def add_programs(app: FastAPI, service: Service) -> None:
    """Add the routes of programs: one for each, typed from its signature."""

    @app.get("/v1/programs", tags=["programs"], summary="List the programs")
    async def programs() -> list[dict[str, Any]]:
        return [served.described() for served in service.programs.values()]

    for served in service.programs.values():
        about = served.task.signature.instructions.partition("\n")[0]
        app.add_api_route(
            f"/v1/programs/{served.name}",
            _asking(service, served),
            methods=["POST"],
            tags=["programs"],
            summary=about,
            operation_id=f"ask_{served.name}".replace("-", "_"),
            response_class=JSONResponse,
            responses={200: {"model": served.schemas.answer, "content": {EVENTS: {}}}},
        )

    @app.post("/v1/programs/{name}", include_in_schema=False)
    async def nothing(name: str) -> None:
        raise Problem(404, f"{unknown('program', name[:100], service.programs)}; GET /v1/programs lists them")


def _asking(service: Service, served: ServedProgram) -> Callable[..., Any]:
    """The handler of a program's requests."""
    schemas = served.schemas

    async def ask(request: Request, body: Any) -> Response:
        profile = None if body.profile is None else schemas.profile(body.profile)
        inputs, refuses = schemas.values(body.inputs), service.config.unknown_users == "refuse"
        asked = Asked(served, request.state.tenant, inputs, body.user, profile, refuses)

        async def answering() -> dict[str, Any]:
            with service.tracing.span(served.name, request.headers) as set_attributes:
                answered = await answer(asked, service.writer, service.config.timeout)
                set_attributes({**answered["usage"], "violations": len(answered["violations"])})
            service.metrics.answered(served.name, answered)
            return answered

        with ExitStack() as stack:
            stack.enter_context(service.in_flight.call())
            if body.stream or EVENTS in request.headers.get("accept", ""):
                return EventStream(answering, stack.pop_all().close)
            return JSONResponse(await unless_gone(request.receive, answering()))

    async def answered(request: Request, body: Any) -> Response:
        try:
            return await ask(request, body)
        except Exception as error:
            problem = problem_of(error)
            return Response(status_code=CLIENT_GONE) if problem.status == CLIENT_GONE else problem.response()

    answered.__annotations__["body"] = Annotated[schemas.request, Body()]
    return answered
