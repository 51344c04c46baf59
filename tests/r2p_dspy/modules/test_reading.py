"""Answers of real endpoints: in another shape than asked for, or unreadable, with the reason."""

import asyncio
import json
import pickle

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.utils.exceptions import AdapterParseError, LMInvalidRequestError, LMServerError
from hypothesis import example, given
from hypothesis import strategies as st

from metrics.structure import compliant_final, compliant_first
from r2p_dspy import AssertionFailed, Composite, Enforce, optimizing
from r2p_dspy.modules.reason import Reason
from r2p_dspy.outcome import Inputs
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.shapes import read
from r2p_dspy.scoring.completions import CompletionReader
from tests.endpoint import Reply
from tests.film import FILM, HISTORY, Film, ask, fields, json_completion, program, xml_completion
from tests.r2p_dspy.modules.test_thinking import thought
from tests.scripted import completion

pytestmark = pytest.mark.chat  # each test names the adapter that asks, or means the chat adapter
CHAT, JSON, XML = completion(), json_completion(), xml_completion()
SHAPES = [
    # (asked, the answer, its shape where it is not the one asked for)
    (dspy.ChatAdapter(), CHAT, ""),
    (dspy.ChatAdapter(), JSON, "JSON"),
    (dspy.ChatAdapter(), f"Here is the answer:\n\n```json\n{JSON}\n```\nAnything else?", "JSON"),
    (dspy.ChatAdapter(), f"<think>Is it {{romance}}?</think>\n\n{JSON}", "JSON"),
    (dspy.ChatAdapter(), XML, "XML"),
    (dspy.ChatAdapter(), f"```xml\n{XML}\n```", "XML"),
    (dspy.JSONAdapter(), JSON, ""),
    (dspy.JSONAdapter(), CHAT, "chat"),
    (dspy.JSONAdapter(), XML, "XML"),
    (dspy.XMLAdapter(), XML, ""),
    (dspy.XMLAdapter(), JSON, "JSON"),
    (dspy.XMLAdapter(), CHAT, "chat"),
    (BAMLAdapter(), JSON, ""),
    (BAMLAdapter(), CHAT, "chat"),
]
RIGHT = Composite(lambda example, prediction: float(example.tag == prediction.tag))


class TestShapes:
    @pytest.mark.parametrize(("adapter", "text", "shape"), SHAPES)
    def test_answer_is_read_at_no_further_call(self, endpoint, adapter, text, shape):
        server = endpoint(text)
        with dspy.context(adapter=adapter):
            answer = ask(program())
        assert (answer.tag, answer.violations, server.asked) == ("romance", [], 1)
        assert [item.id for item in answer.reasoning.cited] == ["m7"]
        (attempt,) = answer.attempts
        assert (attempt.shape, attempt.unreadable) == (shape, None)

    @pytest.mark.parametrize(("adapter", "text", "shape"), SHAPES)
    def test_other_shape_does_not_comply(self, endpoint, adapter, text, shape):
        endpoint(text)
        with dspy.context(adapter=adapter):
            answer = ask(program())
        assert compliant_first(answer) is compliant_final(answer) is (not shape)
        score = RIGHT(dspy.Example(tag="romance"), answer)
        assert score.parts["structure"] == pytest.approx(2 / 3 if shape else 1)
        assert (f"The answer came as {shape}." in score.feedback) is bool(shape)

    @pytest.mark.parametrize(
        ("why", "values", "fault"),
        [
            ("a field is missing", fields(tag=None) | {"tog": "romance"}, "the field tag is missing."),
            ("null for a text", fields(tag=None), "the field tag is missing."),
            ("another type", fields(evidence="the first"), "the answer cannot be read."),
        ],
    )
    def test_every_field_must_be_there_and_of_its_type(self, endpoint, why, values, fault):
        if why != "null for a text":
            values = {name: value for name, value in values.items() if value is not None}
        server = endpoint(Reply.json(values), CHAT)
        answer = ask(program())
        assert (answer.tag, server.asked) == ("romance", 2)
        assert not answer.attempts[0].shape and answer.attempts[0].unreadable.cause == "malformed"

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.XMLAdapter(), dspy.JSONAdapter()])
    @pytest.mark.parametrize(
        ("text", "year"),
        [
            ('{"year": 1999}', 1999),
            ('{"year": null}', None),
            ("<year>1999</year>", 1999),
            ("[[ ## year ## ]]\n1999", 1999),
            ("[[ ## year ## ]]\nNone", None),
        ],
    )
    def test_answer_that_may_be_none(self, endpoint, adapter, text, year):
        """DSPy reads None where the field does not stand in the format that it asked for."""
        endpoint(text)
        with dspy.context(adapter=adapter):
            assert Enforce(dspy.Predict("film -> year: int | None"))(film=FILM).year == year

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.XMLAdapter(), dspy.JSONAdapter()])
    def test_prose_is_no_none(self, endpoint, adapter):
        server = endpoint("I can't say.")
        with dspy.context(adapter=adapter), pytest.raises(AssertionFailed, match="the field year is missing"):
            Enforce(dspy.Predict("film -> year: int | None"))(film=FILM)
        assert server.asked == 3

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.XMLAdapter(), dspy.JSONAdapter()])
    @pytest.mark.parametrize("text", [CHAT, JSON, XML], ids=["chat", "JSON", "XML"])
    def test_thought_in_the_text_may_rehearse_the_answer(self, endpoint, adapter, text):
        rehearsal = "\n".join([text, completion(tag="fantasy"), json_completion(tag="sad"), xml_completion(tag="x")])
        endpoint(f"<think>\n{rehearsal}\n</think>\n\n{text}")
        with dspy.context(adapter=adapter):
            answer = ask(program())
        assert (answer.tag, len(answer.attempts)) == ("romance", 1)
        assert compliant_first(answer) is (not answer.attempts[0].shape)

    @given(values=st.dictionaries(st.sampled_from(["requirements", "draft", "tag"]), st.text(min_size=1), min_size=3))
    @example({"requirements": "<think>", "draft": "</think> a", "tag": "[[ ## tag ## ]]"})
    def test_any_text_in_json(self, values):
        """JSON carries every text as it is, also one that looks like a marker of another format."""
        signature = Reason(Film).signature
        read_fields, shape = read(dspy.ChatAdapter().parse, signature, json.dumps(fields(**values)))
        assert (shape, {name: read_fields[name] for name in values}) == ("JSON", values)

    def test_stream(self, endpoint):
        server = endpoint(JSON)
        stream = dspy.streamify(program(), async_streaming=False)(film=FILM, profile=HISTORY)
        assert [*stream][-1].tag == "romance" and server.asked == 1

    def test_async(self, endpoint):
        server = endpoint(JSON)
        assert asyncio.run(program().acall(film=FILM, profile=HISTORY)).tag == "romance" and server.asked == 1

    def test_around_any_module(self, endpoint):
        server = endpoint(Reply.json({"reasoning": "so", "tag": "romance"}))
        answer = Enforce(dspy.ChainOfThought("film -> tag"))(film=FILM)
        assert (answer.tag, answer.attempts[0].shape, server.asked) == ("romance", "JSON", 1)

    @pytest.mark.parametrize("spelling", ["reasoning_content", "reasoning"])
    @pytest.mark.parametrize("text", ["[[ ## tag ## ]]\nromance", '{"tag": "romance"}'])
    def test_thought_beside_the_text(self, endpoint, text, spelling):
        """A server may think where DSPy's tables do not say so."""
        server = endpoint(Reply.text(text, thought(), spelling))
        answer = ask(program(carrier="thinking"))
        assert (answer.tag, answer.reasoning.draft, server.asked) == ("romance", "romance", 1)

    def test_users_callbacks_hear_of_one_parse(self, endpoint):
        class Parses(dspy.utils.callback.BaseCallback):
            ends = []

            def on_adapter_parse_end(self, call_id, outputs, exception=None):
                self.ends.append(exception)

        endpoint(JSON)
        with dspy.context(callbacks=[Parses()]):
            ask(program())
        (failure,) = Parses.ends
        assert isinstance(failure, AdapterParseError)

    def test_rewards(self):
        reader = CompletionReader(Reason(Film), program().checks)
        inputs = Inputs(fields={"film": FILM}, items=Profile.of(HISTORY).local())
        chat, in_json = (reader(inputs, text) for text in (CHAT, JSON))
        assert chat.tag == in_json.tag == "romance"
        rewards = [RIGHT.reward(dspy.Example(tag="romance"), prediction) for prediction in (chat, in_json)]
        assert rewards[0]["structure"] == 1 and rewards[1]["structure"] == pytest.approx(2 / 3)
        assert rewards[0]["reward"] > rewards[1]["reward"] > 0.9


LIMIT = 64
CAUSES = [
    # (reply, cause, calls that are made, what the error says, what is kept)
    (Reply.cut("[[ ## requirements ## ]]\na tag for"), "cut_off", 2, "cut off at the limit of 64 tokens", "a tag for"),
    (Reply.cut("<think>\nThe film is"), "no_room", 1, "thinking took all of the limit of 64 tokens", "The film is"),
    (Reply.cut("", "The film is"), "no_room", 1, "thinking took all of the limit of 64 tokens", "The film is"),
    (Reply.no_room(), "no_room", 1, "--answer-tokens), or let the model think less", ""),
    (Reply.filtered(), "filtered", 1, "a content filter withheld it", ""),
    (Reply.filtered("[[ ## requirements"), "filtered", 1, "a content filter withheld it", "[[ ## requirements"),
    (Reply.filtered_prompt(), "filtered", 1, "a content filter keeps the prompt from the model", ""),
    (Reply.refusal("I can't help with that."), "refused", 1, "the model refuses to answer", "I can't help with that."),
    (Reply.text(""), "empty", 3, "it is empty (", ""),
    (Reply.null(), "empty", 3, "it is empty (", ""),
    (Reply.text("", "The film is sad."), "empty", 3, "it is empty after the thought", "The film is sad."),
    (Reply.text("I'd say romance."), "malformed", 3, "the field requirements is missing", "I'd say romance."),
    (Reply.tool_call("search", q="film"), "malformed", 3, "calls the tool search instead of answering", ""),
    (
        Reply.cut("[[ ## requirements").without_usage(),
        "cut_off",
        2,
        "cut off at the limit of 64 tokens",
        "requirements",
    ),
]


class TestUnreadable:
    @pytest.mark.parametrize(("reply", "cause", "calls", "words", "kept"), CAUSES)
    def test_cause_is_named_and_no_call_repeated_that_must_fail(self, endpoint, reply, cause, calls, words, kept):
        server = endpoint(reply, max_tokens=LIMIT)
        with pytest.raises(AssertionFailed) as caught:
            ask(program())
        failed = caught.value
        assert (failed.attempts[-1].unreadable.cause, server.asked) == (cause, calls)
        assert words in str(failed) and kept in str(failed) and "\n" not in str(failed)
        assert failed.completion.endswith(kept) and failed.prediction.tag is None
        assert pickle.loads(pickle.dumps(failed)).attempts == failed.attempts

    @pytest.mark.parametrize("reply", [case[0] for case in CAUSES])
    def test_optimizing_returns_it(self, endpoint, reply):
        endpoint(reply, max_tokens=LIMIT)
        with optimizing():
            answer = ask(program())
        assert answer.tag is None and answer.unreadable == answer.attempts[-1].unreadable
        assert RIGHT(dspy.Example(tag="romance"), answer) == 0

    @pytest.mark.parametrize(("reply", "cause", "calls", "words", "kept"), CAUSES)
    def test_reason_alone(self, endpoint, reply, cause, calls, words, kept):
        endpoint(reply, max_tokens=LIMIT)
        with pytest.raises(AdapterParseError) as caught:
            Reason(Film)(film=FILM, profile=HISTORY)
        assert caught.value.details.unreadable.cause == cause
        assert words in str(caught.value) or cause == "malformed"
        assert pickle.loads(pickle.dumps(caught.value)).details.unreadable == caught.value.details.unreadable

    def test_cut_off_answer_is_asked_for_once_more_in_brief(self, endpoint):
        server = endpoint(Reply.cut("[[ ## requirements ## ]]\na tag"), CHAT, max_tokens=LIMIT)
        answer = ask(program())
        assert (answer.tag, server.asked) == ("romance", 2)
        assert "it is cut off at the limit of 64 tokens; be brief." in server.prompts()[1]

    def test_cut_off_answer_that_can_be_read_has_a_warning(self, endpoint):
        endpoint(Reply.cut(CHAT.replace("romance\n\n[[ ## completed ## ]]", "roman")))
        answer = ask(program(max_backtracks=0))
        assert answer.tag == "roman" and "cut off at the token limit" in answer.warnings[0]

    def test_fallback_answers_in_its_place(self, endpoint):
        endpoint(Reply.refusal())
        assert ask(program(on_unmet="return")).unreadable.cause == "refused"
        answer = ask(program(on_unmet=lambda failure: {"tag": "fantasy"}))
        assert (answer.tag, answer.unreadable, answer.attempts[0].unreadable.cause) == ("fantasy", None, "refused")

    def test_limit_without_a_setting_is_counted(self, endpoint):
        endpoint(Reply.cut("I think of"))
        with pytest.raises(AssertionFailed, match="cut off at the limit of 3 tokens"):
            ask(program())

    @pytest.mark.parametrize(("reply", "cause"), [(Reply.filtered(), "filtered"), (Reply.no_room(), "no_room")])
    def test_stream(self, endpoint, reply, cause):
        server = endpoint(reply)
        with optimizing():
            *_, answer = dspy.streamify(program(), async_streaming=False)(film=FILM, profile=HISTORY)
        assert (answer.unreadable.cause, server.asked) == (cause, 1)

    def test_each_candidate_is_asked_once(self, endpoint):
        server = endpoint(Reply.refusal())
        with pytest.raises(AssertionFailed, match="refuses"):
            ask(program(candidates=2))
        assert server.asked == 2

    def test_async_and_history(self, endpoint):
        """Listening to a model changes neither its history nor what the user sees of it."""
        endpoint(Reply.refusal())
        lm = dspy.settings.lm
        with pytest.raises(AssertionFailed, match="refuses"):
            asyncio.run(program().acall(film=FILM, profile=HISTORY))
        assert len(lm.history) == 1
        with dspy.context(disable_history=True), pytest.raises(AssertionFailed, match="refuses"):
            ask(program())
        assert len(lm.history) == 1 and type(lm) is dspy.LM

    @pytest.mark.parametrize(
        ("reply", "words"),
        [
            (Reply.refusal("No."), 'refuses to answer; it ends: "No."'),
            (Reply.no_room(), "took all of the limit of 64 tokens"),
            (Reply.filtered(), "a content filter withheld it"),
            (Reply.filtered_prompt(), "a content filter keeps the prompt from the model"),
        ],
    )
    def test_litellm(self, endpoint, reply, words):
        pytest.importorskip("litellm")
        server = endpoint(reply, engine="litellm", max_tokens=LIMIT)
        with pytest.raises(AssertionFailed, match=words):
            ask(program())
        assert server.asked == 1

    @pytest.mark.parametrize(("reply", "kind"), [(400, LMInvalidRequestError), (500, LMServerError)])
    def test_errors_of_servers_stay_errors(self, endpoint, reply, kind):
        endpoint(Reply.http_error(reply))
        with pytest.raises(kind):
            ask(program())

    def test_models_of_ones_own_keep_their_state(self):
        """A model that walks through prepared answers moves on, though a subclass of it was called."""
        lm = dspy.utils.DummyLM([{"tag": "comedy"}, {"tag": "romance"}])
        with dspy.context(lm=lm):
            answers = [Enforce(dspy.Predict("film -> tag"))(film=FILM).tag for _ in range(2)]
        assert answers == ["comedy", "romance"] and len(lm.history) == 2
