"""Structural compliance, first attempt and final, from the verdicts that a prediction carries."""

import dspy
import pytest

from metrics.structure import compliance, compliant_final, compliant_first
from r2p_dspy.checks import Verdict
from r2p_dspy.modules.enforce import Attempt


def attempt(**checks):
    return Attempt(verdicts=[Verdict(check=name, kind="assert", ok=ok) for name, ok in checks.items()])


GOOD = attempt(parsed=True, stages=True, cited=False)
UNPARSED = attempt(parsed=False, stages=False, cited=False)
DISORDERED = attempt(parsed=True, stages=False, cited=True)


@pytest.mark.parametrize(
    ("why", "prediction", "first", "final"),
    [
        ("kept at once; evidence is another matter", dspy.Prediction(attempts=[GOOD]), True, True),
        ("mended", dspy.Prediction(attempts=[DISORDERED, UNPARSED, GOOD]), False, True),
        ("never mended", dspy.Prediction(attempts=[UNPARSED, DISORDERED]), False, False),
        ("stopped at the parse", dspy.Prediction(attempts=[attempt(parsed=False)]), False, False),
        ("a program with no template", dspy.Prediction(tag="comedy"), None, None),
        ("checks, but no template", dspy.Prediction(attempts=[attempt(parsed=True, short=True)]), None, None),
    ],
)
def test_one_prediction(why, prediction, first, final):
    assert (compliant_first(prediction), compliant_final(prediction)) == (first, final), why


def test_a_program_and_its_failed_calls():
    """`Evaluate` puts an empty prediction where a call raised; leaving it out would raise the share."""
    predictions = [dspy.Prediction(attempts=[GOOD]), dspy.Prediction(attempts=[DISORDERED, GOOD]), dspy.Prediction()]
    assert compliance(predictions) == {"first": [True, False, False], "final": [True, True, False]}
    assert compliance([dspy.Prediction()]) == {"first": None, "final": None}
