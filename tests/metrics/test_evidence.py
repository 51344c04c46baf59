"""Evidence validity, from the verdicts that a prediction carries."""

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.evidence import valid
from metrics.structure import compliant_final, compliant_first
from r2p_dspy.checks import BUILT_IN, Verdict
from r2p_dspy.prediction import Attempt
from r2p_dspy.profile import Profile
from r2p_dspy.scoring.composite import Composite

ITEMS = Profile.of([{"id": "1", "text": "it rained"}])


def attempt(accepted=True, **held):
    checks = {"parsed": True, "cited": True, "quoted": True, "backed": True, "labelled": True, "approved": False} | held
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
        ("a preference without cited items", answer(attempt(backed=False)), False, False),
        ("a label that the items do not bear", answer(attempt(labelled=False)), False, False),
        ("there was nothing to cite", answer(attempt(), retrieved=Profile()), False, None),
        ("no template", dspy.Prediction(tag="comedy"), False, None),
        ("no evidence in its template", answer(Attempt(verdicts=[])), False, None),
        ("mended", answer(attempt(accepted=False, quoted=False), attempt()), False, True),
        ("mended, as it first was", answer(attempt(accepted=False, quoted=False), attempt()), True, False),
        ("the accepted attempt, not the last", answer(attempt(), attempt(accepted=False, quoted=False)), False, True),
    ],
)
def test_evidence_validity(why, prediction, first, expected):
    assert valid(prediction, first=first) is expected, why


@settings(max_examples=50)
@given(st.sets(st.sampled_from([check.name for check in BUILT_IN])))
def test_report_and_score_agree(failed):
    """The evidence and structure that a report calls valid are those that get the score's full parts."""
    checks = {check.name: check.name not in failed for check in BUILT_IN}
    prediction = answer(attempt(**checks))
    parts = Composite(lambda example, prediction: 1.0)(dspy.Example(), prediction).parts
    assert valid(prediction) == (parts["evidence"] == 1)
    assert compliant_first(prediction) == compliant_final(prediction) == (parts["structure"] == 1)
