"""Recording what a steer read, and replaying it to the steers of a later run."""

import copy

import pytest

from r2p_dspy import TEMPLATE
from r2p_dspy.checks import BUILT_IN
from r2p_dspy.decoding.carriers import field_marks
from r2p_dspy.decoding.monitor import Monitor
from r2p_dspy.decoding.replay import record_readings, replay_readings
from r2p_dspy.decoding.steering import Correction, PausingSteer, next_steer, steering
from r2p_dspy.outcome import Inputs
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.adapter import active_adapter
from tests.film import FILM, HISTORY
from tests.scripted import STAGES, completion

FIELDS = field_marks(active_adapter(), {name: name for name in STAGES if name != "tag"}, ["tag"])
pytestmark = pytest.mark.not_json  # JSON answers are corrected by a retry
INPUTS = Inputs(fields={"film": FILM}, items=Profile.of(HISTORY).local())
BAD = completion(requirements="")


def monitor(most=2, checks=BUILT_IN):
    return Monitor(FIELDS, TEMPLATE, checks, INPUTS, most)


def recorded(new_steer, text, pauses=False):
    """The readings of one answer that arrives in pieces of ten characters."""
    readings = []
    with steering(new_steer), record_readings(readings):
        steer = next_steer()
        if pauses:
            steer.pause()
        for end in range(10, len(text) + 10, 10):
            if steer(text[:end]) is not None:
                break
    return readings


@pytest.mark.parametrize("text", [completion(), BAD])
@pytest.mark.parametrize("pauses", [False, True])
def test_same_steers_agree(text, pauses):
    readings = recorded(monitor, text, pauses)
    assert readings[0][0][0] == ("pause" if pauses else "read")
    with steering(monitor):
        assert replay_readings(readings) is None


def test_agreeing_steer_has_read_the_answer():
    steers = []

    def new_steer():
        steers.append(monitor())
        return steers[-1]

    readings = recorded(monitor, BAD)
    with steering(new_steer):
        assert replay_readings(readings) is None
    assert [intervention.stage for intervention in steers[0].interventions] == ["requirements"]


def test_differing_steers_come_back_unread():
    readings = recorded(monitor, BAD)
    with steering(lambda: monitor(most=0)):
        (steer,) = replay_readings(readings)
        assert steer.interventions == []
        with record_readings(again := [], ready=[steer]):
            assert next_steer()("text") is None
    assert again == [[["read", 0, "text", None]]]


def test_no_steers_replay_nothing():
    assert replay_readings(recorded(monitor, BAD)) == [] and replay_readings([]) is None


def test_only_pausing_steers_record_pauses():
    corrections = [None, Correction(2, "(N)", "so")]
    with steering(lambda: lambda text: corrections.pop(0)), record_readings(readings := []):
        steer = next_steer()
        assert not isinstance(steer, PausingSteer)
        steer("abc"), steer("abcd")
    assert readings == [[["read", 0, "abc", None], ["read", 3, "d", [2, "(N)", "so"]]]]
    with steering(monitor), record_readings([]):
        assert isinstance(next_steer(), PausingSteer)


def test_copied_monitor_is_independent():
    first = monitor()
    second = copy.copy(first)
    correction = first(BAD)
    assert correction is not None and second(BAD) == correction
    third = copy.copy(first)
    assert third.interventions == first.interventions and third.interventions is not first.interventions
