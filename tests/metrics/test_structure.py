"""Structural compliance, first attempt and final, from the verdicts that a prediction carries."""

import dspy
import pytest

from metrics.structure import compliant_final, compliant_first
from r2p_dspy.checks import Verdict
from r2p_dspy.prediction import Attempt


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
        ("never read", dspy.Prediction(attempts=[UNPARSED]), False, False),
        ("unreadable, but no template", dspy.Prediction(attempts=[attempt(parsed=False)]), None, None),
        ("a program with no template", dspy.Prediction(tag="comedy"), None, None),
        ("checks, but no template", dspy.Prediction(attempts=[attempt(parsed=True, short=True)]), None, None),
    ],
)
def test_structural_compliance(why, prediction, first, final):
    assert (compliant_first(prediction), compliant_final(prediction)) == (first, final), why
