"""Errors as clients get them: RFC 9457 problem details of one sentence, never a stack trace."""

import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from programs.calls.failures import Cause, failure_of
from programs.ui.private_logs import public_message
from r2p_dspy import AssertionFailed, StoreError
from r2p_dspy.engines.keys import without_credentials
from r2p_dspy.errors import ConfigError, DataError

MEDIA_TYPE = "application/problem+json"
CLIENT_GONE = 499  # nobody gets it; metrics count it
_RETRY_AFTER = "1"  # seconds
_log = logging.getLogger(__name__)

# What a failed call of the language model is to the client of this service.
_STATUSES: dict[Cause, int] = {
    "filtered": 422,
    "too_long": 422,
    "invalid": 502,
    "timeout": 504,
    "rate_limit": 503,
    "connection": 502,
    "server": 502,
}
_SENTENCES: dict[Cause, str] = {
    "filtered": "the provider's content filter refuses this request; change its texts",
    "too_long": "the request does not fit the model's context; shorten its texts",
    "invalid": "the language model's server refuses the request",
    "timeout": "the language model did not answer in time; try again later",
    "rate_limit": "the language model's server has too many requests; try again later",
    "connection": "the language model's server cannot be reached; try again later",
    "server": "the language model's server failed; try again later",
}


class ProblemDetails(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Problem(HTTPException):  # FastAPI lets no other error pass while it reads a body
    """An error with its HTTP status and one sentence for the client."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        later = {"Retry-After": _RETRY_AFTER} if status in (429, 503) else {}
        super().__init__(status, " ".join(without_credentials(detail).split())[:1000], {**later, **(headers or {})})

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.status_code

    def body(self) -> dict[str, Any]:
        """The problem as JSON."""
        title = "Client Closed Request" if self.status == CLIENT_GONE else HTTPStatus(self.status).phrase
        return ProblemDetails(title=title, status=self.status, detail=self.detail).model_dump()

    def response(self) -> JSONResponse:
        """The problem as a response."""
        return JSONResponse(self.body(), self.status, self.headers, MEDIA_TYPE)


def problem_of(error: BaseException) -> Problem:
    """What a client is told of an error. Faults of the service are logged, without users' texts."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, StoreError):
        return Problem(503, "the store cannot be used now, and nothing was written; try again later")
    if isinstance(error, ConfigError | DataError):
        return Problem(422, str(error))
    if isinstance(error, AssertionFailed):
        return Problem(502, f"the model's answer breaks the check {error.check!r}; try again")
    if (failure := failure_of(error)) is not None and failure.cause in _STATUSES:
        _log.warning("a call of the language model failed: %s", failure.cause)
        return Problem(_STATUSES[failure.cause], _SENTENCES[failure.cause])
    number = uuid.uuid4().hex[:12]
    _log.error("fault %s: %s: %s", number, type(error).__name__, public_message(error), exc_info=_frames(error))
    return Problem(500, f"the service has a fault, which its log has under {number}; the request was not at fault")


def validation_problem(errors: list[Any]) -> Problem:
    """The first flaw of a request's body, in one sentence without what was sent."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return Problem(400, f"the body is not valid JSON ({first['ctx']['error']}); send one JSON object")
    where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return Problem(422, f"{where}: {first['msg']}{more}; /openapi.json shows what is asked for")


def _frames(error: BaseException) -> Any:
    """The error with its traceback, but a message that quotes nobody."""
    return (RuntimeError, RuntimeError(public_message(error)), error.__traceback__)
