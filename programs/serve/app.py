"""The application: its routes, and the errors of all of them."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from programs.serve.limits import OPEN_PATHS, Gate
from programs.serve.metrics import CONTENT_TYPE
from programs.serve.problems import MEDIA_TYPE, Problem, ProblemDetails, problem_of, validation_problem
from programs.serve.routes.programs import add_programs
from programs.serve.routes.users import add_users
from programs.serve.service import Service
from r2p_dspy.errors import ConfigError, StoreError
from r2p_dspy.version import __version__

_PROBLEM = {"model": ProblemDetails, "description": "Problem (RFC 9457)", "content": {MEDIA_TYPE: {}}}
_ABOUT = "Personalized answers, each with the items of the user's history that it rests on."


def application(service: Service) -> FastAPI:
    """The ASGI application of a service."""
    app = FastAPI(
        title="r2p-dspy",
        version=__version__,
        description=_ABOUT,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=service.running,
        responses={"4XX": _PROBLEM, "5XX": _PROBLEM},
    )
    _add_state(app, service)
    add_programs(app, service)
    add_users(app, service)
    _add_errors(app)
    _describe(app, bool(service.config.tokens))
    app.add_middleware(
        Gate,
        tokens=service.config.tokens,
        in_flight=service.in_flight,
        max_bytes=service.config.max_bytes,
        metrics=service.metrics,
    )
    return app


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="Whether the process runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether requests can be answered now")
    async def readyz() -> dict[str, str]:
        if service.in_flight.draining:
            raise Problem(503, "the service is shutting down")
        await service.check()
        return {"status": "ready"}

    @app.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_errors(app: FastAPI) -> None:
    async def known(request: Request, error: Exception) -> JSONResponse:
        return problem_of(error).response()

    async def invalid(request: Request, error: Any) -> JSONResponse:
        return validation_problem(error.errors()).response()

    async def http(request: Request, error: Any) -> JSONResponse:
        what = {404: "there is nothing at this address; /openapi.json lists what there is"}
        detail = what.get(error.status_code, f"{str(error.detail).rstrip('.')}; /openapi.json shows what is asked for")
        return Problem(error.status_code, detail, error.headers).response()

    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    for kind in (Problem, StoreError, ConfigError, Exception):
        app.add_exception_handler(kind, known)


def _describe(app: FastAPI, asks_for_tokens: bool) -> None:
    """Let /openapi.json say where a token is needed."""
    made = app.openapi

    def described() -> dict[str, Any]:
        schema = made()
        if asks_for_tokens:
            schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["token"] = {"type": "http", "scheme": "bearer"}
            for path, methods in schema["paths"].items():
                for method in methods.values() if path not in OPEN_PATHS else ():
                    method["security"] = [{"token": []}]
        return schema

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's documented way
