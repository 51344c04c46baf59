"""Why a call of a language model failed, and what that ends: the row that asked, or the run."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from dspy.utils import exceptions as dspy_errors
from dspy.utils.exceptions import LMError, LMInvalidRequestError

from r2p_dspy.engines.keys import without_credentials
from r2p_dspy.prompting.causes import is_filtered

Cause: TypeAlias = Literal[
    "filtered",  # a content filter keeps the prompt from the model
    "too_long",  # the prompt does not fit into the model's context
    "invalid",  # the server refuses the request
    "timeout",  # no whole answer within the deadline
    "server",  # the server fails, or its reply is no answer
    "rate_limit",
    "connection",  # the server cannot be reached
    "auth",
    "billing",
    "model",  # the server does not know the model
    "settings",  # the model cannot be asked in this way
    "unexpected",
]
Scope: TypeAlias = Literal["row", "server", "run"]

# What a failure says something about. A row's own failure comes back whenever the row is asked. A server's failure has
# outlasted the retries of its call; it says nothing about the program, and the next row may well be answered. A run's
# failure meets every row.
SCOPES: dict[Cause, Scope] = {
    "filtered": "row",
    "too_long": "row",
    "invalid": "row",
    "timeout": "server",
    "server": "server",
    "rate_limit": "server",
    "connection": "server",
    "auth": "run",
    "billing": "run",
    "model": "run",
    "settings": "run",
    "unexpected": "run",
}

# The first class that an error is an instance of decides, so subclasses stand before their parents.
_CAUSES: tuple[tuple[type[LMError], Cause], ...] = (
    (dspy_errors.ContextWindowExceededError, "too_long"),
    (dspy_errors.LMUnsupportedModelError, "model"),
    (dspy_errors.LMInvalidRequestError, "invalid"),
    (dspy_errors.LMTimeoutError, "timeout"),
    (dspy_errors.LMServerError, "server"),
    (dspy_errors.LMCollectionLimitError, "server"),
    (dspy_errors.LMStreamAssemblyError, "server"),
    (dspy_errors.LMRateLimitError, "rate_limit"),
    (dspy_errors.LMTransportError, "connection"),
    (dspy_errors.LMAuthError, "auth"),
    (dspy_errors.LMBillingError, "billing"),
    (dspy_errors.LMConfigurationError, "settings"),
    (dspy_errors.LMUnsupportedFeatureError, "settings"),
    (dspy_errors.LMProviderError, "server"),
)


@dataclass(frozen=True)
class Failure:
    """Why a call failed: the cause, and the reason in the provider's words, on one line."""

    cause: Cause
    reason: str

    @property
    def scope(self) -> Scope:
        """What the failure is a failure of: see `SCOPES`."""
        return SCOPES[self.cause]


def failure_of(error: BaseException) -> Failure | None:
    """Why a call of a language model failed, or None for an error that no language model raised.

    Examples:
        >>> failure_of(dspy_errors.LMTimeoutError("no answer within 120 s")).scope
        'server'
        >>> failure_of(dspy_errors.LMInvalidRequestError("no", provider_code="content_filter"))
        Failure(cause='filtered', reason='no')
        >>> failure_of(KeyError("film")) is None
        True
    """
    if not isinstance(error, LMError):
        return None
    cause: Cause = next((cause for kind, cause in _CAUSES if isinstance(error, kind)), "unexpected")
    if cause == "invalid" and isinstance(error, LMInvalidRequestError) and is_filtered(error):
        cause = "filtered"
    return Failure(cause, " ".join(without_credentials(str(error)).split())[:300])
