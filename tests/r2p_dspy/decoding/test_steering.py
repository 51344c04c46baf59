"""Steering the in-process engine: a row is stopped, cut, and goes on from what somebody puts into its answer."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from dspy.lm15 import Config, Message, Request

from r2p_dspy.decoding.steering import Correction, steering
from r2p_dspy.engines.local.engine import TransformersEngine


@pytest.fixture(scope="module")
def engine(tiny_model_dir):
    engine = TransformersEngine(str(tiny_model_dir))
    yield engine
    engine.close()


def ask(engine, text="Tell me about tests.", **config):
    config = {"max_tokens": 60, "temperature": 1.0, "seed": 3, **config}
    return Request(engine.model_name, (Message.user(text),), config=Config(**config))


class Once:
    """Cuts an answer once, as soon as it has so many characters."""

    def __init__(self, kept, note=" (Wait.)", opening=" so: ", at=30):
        self.correction, self.at, self.texts = Correction(kept, note, opening), at, []

    def __call__(self, text):
        self.texts.append(text)
        if self.correction is not None and len(text) >= self.at:
            correction, self.correction = self.correction, None
            return correction
        return None


def steered(engine, reader, **config):
    with steering(lambda: reader):
        return engine.complete(ask(engine, **config))


def test_uncorrected_answer_is_unchanged(engine):
    reader = Once(0, at=10**6)
    assert steered(engine, reader).text == engine.complete(ask(engine)).text == reader.texts[-1]


@pytest.mark.parametrize("kept", [0, 1, 13, 29])
def test_resumes_after_opening_without_the_note(engine, kept):
    plain = engine.complete(ask(engine)).text
    answer = steered(engine, Once(kept)).text
    assert answer.startswith(plain[:kept] + " so: ") and len(answer) > kept + 5
    assert "Wait" not in answer
    assert answer != steered(engine, Once(kept, note=" (Stop!)")).text, "the model has read it"


def test_steered_answers_repeat_in_a_batch(engine):
    requests = [{"seed": seed, "text": f"Question {seed}"} for seed in range(8)]
    alone = [steered(engine, Once(9), **request).text for request in requests]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda request: steered(engine, Once(9), **request).text, requests)) == alone


def test_discarded_tokens_are_stopped_and_counted(engine):
    before, written = engine.served.cancelled, engine.served.output_tokens
    answer = steered(engine, Once(5))
    assert engine.served.cancelled == before + 1
    # What was cut out of the answer counts; what the row wrote beyond the reader, as threads were timed, does not.
    assert answer.usage.output_tokens == 60 <= engine.served.output_tokens - written
    assert answer.usage.input_tokens > 2 * engine.complete(ask(engine)).usage.input_tokens


def test_endless_corrections_keep_the_token_limit(engine):
    answer = steered(engine, lambda text: Correction(0, "", "x") if len(text) > 4 else None, max_tokens=40)
    assert answer.usage.output_tokens <= 40 + 8  # what the model wrote before it heard of the last stop
    assert answer.finish_reason in ("length", "stop")


def test_cut_within_an_earlier_opening(engine):
    corrections = [Correction(10, "", " so: we say "), Correction(14, " (Hm.)", " that is ")]

    def reader(text):
        return corrections.pop(0) if corrections and len(text) >= 26 else None

    answer = steered(engine, reader).text
    plain = engine.complete(ask(engine)).text
    assert answer.startswith(f"{plain[:10]} so: that is ")


def test_failing_reader_stops_only_its_row(engine):
    def broken(text):
        raise RuntimeError("broken reader")

    with pytest.raises(RuntimeError, match="broken reader"):
        steered(engine, broken, max_tokens=200)
    assert engine.complete(ask(engine)).text
