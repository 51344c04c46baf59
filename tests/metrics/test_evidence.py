"""Evidence validity, from the verdicts that a prediction carries."""

import dspy
import pytest

from metrics.evidence import valid, validity
from r2p_dspy.checks import Verdict
from r2p_dspy.modules.enforce import Attempt
from r2p_dspy.profile import Profile

ITEMS = Profile.of([{"id": "1", "text": "it rained"}])


def attempt(accepted=True, **held):
    checks = {"parsed": True, "cited": True, "quoted": True, "labelled": True, "backed": False} | held
    return Attempt(
        verdicts=[Verdict(check=name, kind="assert", ok=ok) for name, ok in checks.items()], accepted=accepted
    )


def answer(*attempts, retrieved=ITEMS):
    return dspy.Prediction(attempts=list(attempts), retrieved=retrieved)


@pytest.mark.parametrize(
    ("why", "prediction", "first", "expected"),
    [
        ("all of it stands, whatever other checks say", answer(attempt()), False, True),
        ("an id that does not exist, or nothing cited", answer(attempt(cited=False)), False, False),
        ("a quote that is not there", answer(attempt(quoted=False)), False, False),
        ("a label that the items do not bear", answer(attempt(labelled=False)), False, False),
        ("there was nothing to cite", answer(attempt(), retrieved=Profile()), False, None),
        ("no template", dspy.Prediction(tag="comedy"), False, None),
        ("no evidence in its template", answer(Attempt(verdicts=[])), False, None),
        ("mended", answer(attempt(accepted=False, quoted=False), attempt()), False, True),
        ("mended, as it first was", answer(attempt(accepted=False, quoted=False), attempt()), True, False),
        ("the accepted attempt, not the last", answer(attempt(), attempt(accepted=False, quoted=False)), False, True),
    ],
)
def test_one_prediction(why, prediction, first, expected):
    assert valid(prediction, first=first) is expected, why


def test_a_program_and_its_failed_calls():
    wrong, empty = answer(attempt(quoted=False)), answer(attempt(), retrieved=Profile())
    assert validity([answer(attempt()), wrong, empty, dspy.Prediction()]) == [True, False, False]
    assert validity([dspy.Prediction()]) is None
    assert validity([empty]) is None
