"""Why calls fail: every error of DSPy's has a cause, and every cause says whether a row or the run is at fault."""

import dspy
import pytest
from dspy import lm15
from dspy.utils import exceptions
from dspy.utils.exceptions import LMError

from programs.calls.failures import SCOPES, failure_of
from tests.scripted import ScriptedEngine

RAISED = [
    (lm15.ContextLengthError("too long"), "too_long", "row"),
    (lm15.InvalidRequestError("no such field"), "invalid", "row"),
    (lm15.InvalidRequestError("no", provider_code="content_filter"), "filtered", "row"),
    (lm15.InvalidRequestError("no", provider_code="content_policy_violation"), "filtered", "row"),
    (lm15.InvalidRequestError("it triggered Azure OpenAI's content management policy"), "filtered", "row"),
    (lm15.TimeoutError("no answer"), "timeout", "server"),
    (lm15.ServerError("502"), "server", "server"),
    (lm15.ProviderError("something"), "server", "server"),
    (lm15.StreamAssemblyError("half an answer"), "server", "server"),
    (lm15.RateLimitError("slow down"), "rate_limit", "server"),
    (lm15.TransportError("reset"), "connection", "server"),
    (lm15.AuthError("no key"), "auth", "run"),
    (lm15.BillingError("no money"), "billing", "run"),
    (lm15.UnsupportedModelError("what model?"), "model", "run"),
    (lm15.NotConfiguredError("no key"), "settings", "run"),
    (RuntimeError("out of memory"), "unexpected", "run"),
]


@pytest.mark.parametrize(("error", "cause", "scope"), RAISED, ids=[repr(error) for error, _, _ in RAISED])
def test_cause_and_scope(error, cause, scope):
    lm = dspy.LM("scripted/test", engine=ScriptedEngine(error), cache=False, num_retries=0)
    with pytest.raises(LMError) as caught:
        lm("question")
    failure = failure_of(caught.value)
    assert (failure.cause, failure.scope) == (cause, scope)
    assert str(error).splitlines()[0] in failure.reason


def test_every_error_of_dspy_has_a_cause():
    unknown = {exceptions.LMError, exceptions.LMUnexpectedError, exceptions.LMLockTimeoutError}
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, LMError)]
    for kind in kinds:
        failure = failure_of(kind(message="m"))
        assert failure is not None and failure.cause in SCOPES
        assert (failure.cause == "unexpected") == (kind in unknown), kind


def test_other_errors_are_no_failed_calls():
    assert failure_of(ValueError("x")) is None and failure_of(KeyboardInterrupt()) is None


def test_reason_is_one_short_line():
    reason = failure_of(exceptions.LMServerError("line\n" * 500)).reason
    assert len(reason) <= 300 and "\n" not in reason
