"""Answers that repeat themselves for ever: stopped in this process, and never taken for lists or tables."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2p_dspy.decoding.loops import repeats
from r2p_dspy.decoding.steering import Correction, steering
from r2p_dspy.engines import connect
from tests.r2p_dspy.conftest import build_model

PERIOD, CONTEXT = 20, 2048


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """The directory of a model that writes the same twenty tokens again and again."""
    import torch
    from transformers import AutoModelForCausalLM

    directory = build_model(tmp_path_factory.mktemp("endless"), layers=1, context=CONTEXT)
    model = AutoModelForCausalLM.from_pretrained(directory, tie_word_embeddings=False)
    with torch.no_grad():
        for layer in model.model.layers:  # a token's own embedding decides alone
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        embeddings = torch.nn.functional.normalize(model.model.embed_tokens.weight)
        model.model.embed_tokens.weight.copy_(embeddings)
        model.lm_head.weight.zero_()
        for token in range(len(embeddings)):
            model.lm_head.weight[300 + (token + 1) % PERIOD] += embeddings[token] * (1 if token < 300 else 9)
    model.config.tie_word_embeddings = False
    model.save_pretrained(directory)
    return directory


def ask(directory, **options):
    lm = connect(f"hf:{directory}", temperature=0.0, cache=False, **{"max_tokens": 1500, **options})
    (text,) = lm("Hello")
    return text, lm.history[-1]["usage"]["completion_tokens"], lm.history[-1]["response"].finish_reason


def test_loop_ends_as_a_cut_off_answer(endless):
    text, tokens, finish = ask(endless)
    assert repeats(text, 12, 600)
    assert 256 <= tokens < 1000 and finish == "length"


@pytest.mark.parametrize("options", [{"stop_loops": False}, {"max_tokens": 256}], ids=["off", "short"])
def test_answer_goes_on(endless, options):
    _, tokens, finish = ask(endless, **options)
    assert tokens == options.get("max_tokens", 1500) and finish == "length"


def test_steered_answer_is_left_to_its_steer(endless):
    with steering(lambda: lambda text: None):
        assert ask(endless)[1] == 1500


@pytest.mark.parametrize("ends", [False, True])
def test_usage_does_not_depend_on_the_speed_of_the_steer(endless, ends):
    """A row writes on until it is stopped; what nobody read of it is no usage."""

    def steered(seconds):
        def steer(text):
            time.sleep(seconds)
            if len(text) > 300 and not corrected:
                corrected.append(text)
                return Correction(len(text) if ends else 100, "", "", ends=ends)
            return None

        corrected = []
        with steering(lambda: steer):
            return ask(endless, max_tokens=400)[:2]

    text, tokens = steered(0.0)
    assert steered(0.02) == (text, tokens) and (tokens < 400) == ends


PARAGRAPH = "The reader wants dry headlines, and the article has none. "


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a ruler", "=" * 80),
        ("a wide table's separator", "| --- " * 30 + "|"),
        ("equal rows of a table", "| Monday | n/a | n/a | n/a |\n" * 11),
        ("a numbered list", "".join(f"{n}. The film has a dog in it.\n" for n in range(100))),
        ("a refrain", ("Row, row, row your boat\n" * 4 + "gently down the stream\n") * 4),
        ("a list of zeros", "[" + "0, " * 150),
        ("a JSON list", '{"item": "1", "quote": "a dog"}, ' * 8),
    ],
)
def test_legitimate_repetition_is_no_loop(what, text):
    assert not any(repeats(text[:end], 12, 600) for end in range(len(text) + 1)), what


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a sentence", PARAGRAPH * 12),
        ("a word", "very " * 120),
        ("a marker", "[[ ## tag ## ]]\n" * 38),
        ("a letter", "a" * 600),
    ],
)
def test_endless_repetition_is_a_loop(what, text):
    assert repeats(text, 12, 600), what
    assert not repeats(text + "And then it ended.", 12, 600), what


@given(st.text("ab \n", max_size=9), st.text("ab \n", min_size=1, max_size=140), st.integers(0, 7), st.integers(0, 5))
def test_equals_the_pattern_of_a_loop(before, passage, times, more):
    text = before + passage * times + passage[:more]
    assert repeats(text, 5) == bool(re.search(r"(.{6,120}?)\1{4,}\Z", text, re.DOTALL))
