"""The project's errors survive pickle and copy, so they cross processes and can be raised again."""

import copy
import importlib
import pickle
import re
from pathlib import Path

import dspy
import pytest

from r2p_dspy import Attempt, R2PPrediction, Verdict
from r2p_dspy.errors import ConfigError, DataError, R2PError
from r2p_dspy.modules.failures import AssertionFailed
from r2p_dspy.prompting.causes import Unreadable

HERE = Path(__file__).parents[1]
CLASS = re.compile(r"^class \w+\(.*(Error|Exception|Failed)\b.*\):", re.MULTILINE)
UNMET = Attempt(verdicts=[Verdict(check="short", kind="assert", ok=False, message="Shorten it.")])
BETTER = Attempt(verdicts=[Verdict(check="cited", kind="assert", ok=False)], accepted=True)
FAILED = AssertionFailed(dspy.Prediction(tag="comedy"), [UNMET, BETTER], "tag: comedy")
ARGUMENTS = {  # of those that take more than a message
    "AssertionFailed": (FAILED.prediction, FAILED.attempts, FAILED.completion),
    "MetricError": ("a line", "a traceback"),
    "TaskError": ("a line", "labels", 0),
    "_UnreadableAnswer": (R2PPrediction(tag=None), Unreadable(cause="empty", reason="it is empty")),
}


def errors(base=R2PError):
    """The class and all of its subclasses."""
    return [base, *(error for subclass in base.__subclasses__() for error in errors(subclass))]


@pytest.fixture(scope="module", autouse=True)
def every_error_is_imported():
    for room in ("r2p_dspy", "metrics", "programs", "finetune"):
        for path in (HERE / room).rglob("*.py"):
            if CLASS.search(path.read_text(encoding="utf-8")):
                importlib.import_module(".".join(path.relative_to(HERE).with_suffix("").parts))


@pytest.mark.parametrize("twin", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_errors_survive(twin):
    classes = errors()
    assert len(classes) > 10
    for error_type in classes:
        error = error_type(*ARGUMENTS.get(error_type.__name__, ("a line",)))
        again = twin(error)
        assert (type(again), str(again)) == (error_type, str(error))
        assert {name: repr(value) for name, value in vars(again).items()} == {
            name: repr(value) for name, value in vars(error).items()
        }


def test_a_failed_assertion_keeps_the_prediction():
    again = pickle.loads(pickle.dumps(FAILED))
    assert (again.prediction.tag, again.attempts, again.completion) == ("comedy", [UNMET, BETTER], "tag: comedy")
    assert "after 2 attempts the check 'cited' still fails" in str(again)


def test_users_mistakes_are_value_errors():
    assert [error for error in R2PError.__subclasses__() if issubclass(error, ValueError)] == [ConfigError, DataError]
