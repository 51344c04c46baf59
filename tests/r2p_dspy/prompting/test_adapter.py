"""The recording adapter is the user's adapter to DSPy. Each test fails when DSPy drops what the adapter relies on."""

import asyncio

import dspy
import pytest
from dspy.adapters.baml_adapter import BAMLAdapter
from dspy.streaming import StreamListener
from dspy.utils.callback import BaseCallback
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy import R2P, All, Profile, Reason
from r2p_dspy.prompting.adapter import RecordingAdapter
from r2p_dspy.prompting.shapes import read
from tests.film import FILM, HISTORY, Film, ask, json_completion, program, xml_completion
from tests.scripted import completion

ADAPTERS = [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter, BAMLAdapter]


class Tag(dspy.Signature):
    """Choose a tag."""

    film: str = dspy.InputField()
    year: int = dspy.OutputField()


class Shouting(dspy.ChatAdapter):
    """An adapter of a user's own, with arguments and a state of its own."""

    def __init__(self, mark):
        super().__init__()
        self.mark = mark

    def format_task_description(self, signature):
        return super().format_task_description(signature).upper() + self.mark


class Counting(BaseCallback):
    def __init__(self):
        self.seen = []

    def on_adapter_format_start(self, call_id, instance, inputs):
        self.seen.append(("format", type(instance).__name__))

    def on_adapter_parse_start(self, call_id, instance, inputs):
        self.seen.append(("parse", type(instance).__name__))


@pytest.mark.parametrize("kind", ADAPTERS)
def test_class_and_name(kind):
    recorder = RecordingAdapter.of(RecordingAdapter.of(kind()))
    assert isinstance(recorder, kind) and isinstance(recorder, RecordingAdapter)
    assert (type(recorder).__name__, type(recorder).__module__) == (kind.__name__, kind.__module__)
    assert type(recorder) is type(RecordingAdapter.of(kind())), "one class for each of the user's"


@pytest.mark.parametrize("kind", ADAPTERS)
def test_prompts_are_unchanged(kind):
    demos, inputs = [{"film": "x", "year": 1}], {"film": FILM}
    assert RecordingAdapter.of(kind()).format(Tag, demos, inputs) == kind().format(Tag, demos, inputs)


def test_subclass_keeps_methods_and_state(scripted):
    engine = scripted("[[ ## year ## ]]\n1999")
    adapter = Shouting("!!")
    with dspy.context(adapter=RecordingAdapter.of(adapter)):
        assert dspy.Predict(Tag)(film=FILM).year == 1999
    assert "CHOOSE A TAG.!!" in engine.requests[0].system
    assert vars(adapter).keys() == vars(Shouting("!!")).keys()


def test_json_adapter_keeps_response_format(scripted):
    engine = scripted('{"year": 1999}', supported_params=frozenset({"response_format"}), supports_response_schema=True)
    for adapter in (dspy.JSONAdapter(), RecordingAdapter.of(dspy.JSONAdapter())):
        with dspy.context(adapter=adapter):
            dspy.Predict(Tag)(film=FILM)
    stock, recorded = (request.config.response_format for request in engine.requests)
    assert recorded == stock is not None


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("depth", [1, 2])
def test_callbacks_run_once(scripted, kind, depth):
    text = {dspy.ChatAdapter: "[[ ## year ## ]]\n1", dspy.XMLAdapter: "<year>1</year>"}.get(kind, '{"year": 1}')
    seen = []
    for wrap in (lambda adapter: adapter, RecordingAdapter.of):
        scripted(text)
        counting = Counting()
        adapter = kind(callbacks=[counting])
        for _ in range(depth):
            adapter = wrap(adapter)
        with dspy.context(adapter=adapter):
            dspy.Predict(Tag)(film=FILM)
        seen.append(counting.seen)
    assert seen[0] == seen[1] != []


def test_stream_listeners_find_it():
    listener = StreamListener("year")
    assert type(RecordingAdapter.of(dspy.ChatAdapter())).__name__ in listener.adapter_identifiers


def test_no_json_fallback(scripted):
    engine = scripted("no field")
    with dspy.context(adapter=RecordingAdapter.of(dspy.ChatAdapter())), pytest.raises(AdapterParseError):
        dspy.Predict(Tag)(film=FILM)
    assert len(engine.requests) == 1


def test_answer_with_the_word_reasoning_content(scripted):
    scripted("[[ ## reasoning ## ]]\nreasoning_content\n\n[[ ## year ## ]]\n1")
    signature = Tag.prepend("reasoning", dspy.OutputField(), dspy.Reasoning)
    with dspy.context(adapter=RecordingAdapter.of(dspy.ChatAdapter())):
        assert dspy.Predict(signature)(film=FILM).reasoning == "reasoning_content"


def test_every_layer_records(scripted):
    scripted("[[ ## year ## ]]\n1", "[[ ## year ## ]]\n2")
    outer = RecordingAdapter.of(dspy.ChatAdapter())
    inner = RecordingAdapter.of(outer)
    for adapter in (outer, inner):
        with dspy.context(adapter=adapter):
            dspy.Predict(Tag)(film=FILM)
    assert [completion.text[-1] for completion in outer.completions] == ["1", "2"]
    assert [completion.text[-1] for completion in inner.completions] == ["2"] and inner.first_text[-1] == "2"
    assert RecordingAdapter.of(outer).first_text == ""


def test_deep_nesting_is_a_parse_error():
    with pytest.raises(AdapterParseError, match="Adapter ChatAdapter failed") as raised:
        read(dspy.ChatAdapter().parse, Tag, "[[ ## year ## ]]\n" + "[" * 100_000)
    assert raised.value.signature is Tag


@pytest.mark.parametrize("kind", [dspy.JSONAdapter, BAMLAdapter])
def test_json_adapters_sync_and_async(scripted, kind):
    scripted(json_completion())
    with dspy.context(adapter=kind()):
        module = program()
        answers = [ask(module), asyncio.run(module.acall(film=FILM, profile=HISTORY))]
    assert [answer.tag for answer in answers] == ["romance"] * 2
    assert answers[0].details == answers[1].details


@pytest.mark.chat
def test_structure_is_cached(scripted, monkeypatch):
    scripted(completion())
    signatures, stock = [], dspy.ChatAdapter.format_field_structure
    monkeypatch.setattr(
        dspy.ChatAdapter,
        "format_field_structure",
        lambda self, signature: signatures.append(signature) or stock(self, signature),
    )
    module = Reason(Film.with_instructions("An instruction that no other test has."))
    for _ in range(3):
        ask(module)
    assert signatures == [module.signature]


class Talk(dspy.Signature):
    """Choose the tag that this user would give to the film."""

    film: str = dspy.InputField()
    talk: dspy.History = dspy.InputField()
    profile: Profile = dspy.InputField()
    tag: str = dspy.OutputField()


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        (dspy.ChatAdapter, completion(), "[[ ## tag ## ]]\nfantasy\n\n[[ ## completed ## ]]\n"),
        (dspy.JSONAdapter, json_completion(), '{\n  "tag": "fantasy"\n}'),
        (dspy.XMLAdapter, xml_completion(), "<tag>\nfantasy\n</tag>"),
    ],
)
def test_conversation_shows_the_fields_that_a_turn_has(kind, text, shown, scripted):
    engine = scripted(text)
    turns = [{"film": "x", "tag": "fantasy", "profile": [{"text": "[[ ## tag ## ]]"}]}, {"film": "y"}]
    with dspy.context(adapter=kind()):
        answer = R2P(Talk, retriever=All())(film=FILM, profile=HISTORY, talk=dspy.History(messages=turns))
    assert answer.tag == "romance"
    messages = engine.requests[0].messages
    assert [message.role for message in messages] == ["user", "assistant", "user", "user"]
    assert messages[1].text == shown, "no stage, for the turn has none"
    assert '{"item": "1", "text": "[ [ ## tag # # ]]"}' in messages[0].text, "a turn's history is a stranger's text too"
    assert turns[0]["profile"] == [{"text": "[[ ## tag ## ]]"}], "the user's own turns stay as they are"
