"""R2P as a part of other DSPy programs: called, copied, streamed, saved and loaded as any module is."""

import asyncio
import copy
import re

import dspy
import pytest
from dspy.lm15 import StreamDeltaEvent, TextDelta, response_to_events
from dspy.streaming import StreamListener, StreamResponse

from r2p_dspy import load_program, save_program
from tests.film import FILM, HISTORY, program
from tests.scripted import AsyncScriptedEngine, ScriptedEngine, completion, wanted, written

INPUTS = {"film": FILM, "profile": HISTORY}
EXAMPLES = [dspy.Example(**INPUTS, tag="romance").with_inputs("film", "profile") for _ in range(6)]


class Outer(dspy.Module):
    """R2P, and a predictor that explains its answer."""

    def __init__(self, **options):
        super().__init__()
        self.tagger = program(**options)
        self.explain = dspy.Predict("film, tag -> why")

    def forward(self, film, profile):
        tag = self.tagger(film=film, profile=profile).tag
        return dspy.Prediction(tag=tag, why=self.explain(film=film, tag=tag).why)

    async def aforward(self, film, profile):
        tag = (await self.tagger.acall(film=film, profile=profile)).tag
        return dspy.Prediction(tag=tag, why=(await self.explain.acall(film=film, tag=tag)).why)


class Many(dspy.Module):
    """R2P programs in a list and a dict, one of them twice."""

    def __init__(self):
        super().__init__()
        first = program()
        self.all, self.named = [first, program()], {"first": first, "third": program()}

    def forward(self, **kwargs):
        return [program(**kwargs) for program in (*self.all, *self.named.values())][-1]


class StreamedEngine(ScriptedEngine):
    """Streams word by word, as a model writes; in one piece it would pass for an answer from the cache."""

    def stream(self, request):
        start, *_, end = response_to_events(response := self.complete(request))
        words = re.findall(r"\S+\s*", response.message.text)
        yield from (start, *(StreamDeltaEvent(TextDelta(word)) for word in words), end)


def answer(request):
    fields = wanted(request)
    if "why" in fields:
        return written(why="because")
    if "comparison" in fields:
        return written(comparison="they agree", tag="romance")
    return completion()


@pytest.fixture
def lm():
    engine = StreamedEngine(answer)
    lm = dspy.LM("scripted/x", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False)
    with dspy.context(lm=lm):
        yield lm


@pytest.mark.parametrize(
    "called",
    [
        lambda module: module(**INPUTS),
        lambda module: asyncio.run(module.acall(**INPUTS)),
        lambda module: asyncio.run(dspy.asyncify(module)(**INPUTS)),
        lambda module: dspy.syncify(module)(**INPUTS),
        lambda module: dspy.Parallel(num_threads=4, disable_progress_bar=True)([(module, EXAMPLES[0])] * 6)[-1],
        lambda module: module.batch(EXAMPLES, num_threads=4, disable_progress_bar=True)[-1],
        lambda module: copy.deepcopy(module)(**INPUTS),
        lambda module: module.deepcopy()(**INPUTS),
        lambda module: module.reset_copy()(**INPUTS),
        lambda module: module.map_named_predictors(copy.copy)(**INPUTS),
        lambda module: dspy.BestOfN(module, N=2, reward_fn=lambda inputs, prediction: 0.5, threshold=1.0)(**INPUTS),
    ],
    ids="call acall asyncify syncify Parallel batch copy.deepcopy deepcopy reset_copy map BestOfN".split(),
)
@pytest.mark.parametrize("options", [{}, {"candidates": 2, "reconcile": "synthesis"}], ids=["plain", "synthesis"])
def test_call_styles(lm, called, options):
    prediction = called(Outer(**options))
    assert (prediction.tag, prediction.why) == ("romance", "because")


def test_predictors_are_found(lm):
    names = ["all[0].reason", "all[1].reason", "named['third'].reason"]
    module = Many()
    assert [name for name, _ in module.named_predictors()] == names
    twin = module.deepcopy()
    assert twin.named["first"] is twin.all[0] and twin.named["first"].reason is not module.all[0].reason
    twin.load_state(module.dump_state())
    assert twin(**INPUTS).tag == "romance"


def test_set_lm(lm):
    module = Outer(candidates=2, reconcile="synthesis")
    module.set_lm(lm)
    assert module.get_lm() is lm
    with dspy.context(lm=None):
        assert module(**INPUTS).tag == "romance"


@pytest.mark.parametrize(("options", "calls"), [({}, 2), ({"candidates": 3}, 4)])
def test_track_usage(lm, options, calls):
    with dspy.context(track_usage=True):
        predictions = [Outer(**options)(**INPUTS), asyncio.run(Outer(**options).acall(**INPUTS))]
    assert [prediction.get_lm_usage()["scripted/x"]["total_tokens"] for prediction in predictions] == [15 * calls] * 2


@pytest.mark.parametrize(
    ("field", "options", "text"),
    [
        ("tag", {}, "romance"),
        ("draft", {}, "romance"),
        ("why", {}, "because"),
        ("comparison", {"candidates": 2, "reconcile": "synthesis"}, "they agree"),
    ],
)
def test_streamify(lm, field, options, text):
    module = Outer(**options)

    async def streamed():
        listening = dspy.streamify(module, stream_listeners=[StreamListener(field)])
        return [piece async for piece in listening(**INPUTS)]

    *pieces, prediction = asyncio.run(streamed())
    assert prediction.tag == "romance"
    streamed = "".join(piece.chunk for piece in pieces if isinstance(piece, StreamResponse)).strip()
    if isinstance(dspy.settings.adapter, dspy.JSONAdapter):  # DSPy passes quotes on, and what else is in a chunk
        assert streamed.startswith(f'"{text}"')
    else:
        assert streamed == text


class TestStates:
    """A program saved before or after its R2P got another predictor."""

    PLAIN, SYNTHESIS = {}, {"candidates": 2, "reconcile": "synthesis"}

    def outer(self, instructions, options):
        module = Outer(**options)
        module.tagger.reason.signature = module.tagger.reason.signature.with_instructions(instructions)
        return module

    def test_newer_state_fits_a_plain_program(self, lm):
        module = Outer()
        module.load_state(self.outer("Choose well.", self.SYNTHESIS).dump_state())
        assert module.tagger.reason.signature.instructions == "Choose well."

    def test_older_state_fits_synthesis(self, lm):
        state, module = self.outer("Choose well.", self.PLAIN).dump_state(), Outer(**self.SYNTHESIS)
        module.load_state({**module.dump_state(), **state})  # as docs/composing.md has it
        assert module.tagger.reason.signature.instructions == "Choose well."
        assert module(**INPUTS).tag == "romance"

    def test_part_loads_a_state_and_stays_tunable(self, lm, tmp_path):
        few = dspy.BootstrapFewShot(max_bootstrapped_demos=1, max_labeled_demos=0)
        alone = few.compile(program(), trainset=EXAMPLES)
        module = Outer()
        load_program(module.tagger, save_program(alone, tmp_path / "program.json"))
        assert [name for name, _ in module.named_predictors()] == ["tagger.reason", "explain"]
        module.save(tmp_path / "outer.json")
        loaded = Outer()
        loaded.load(tmp_path / "outer.json")
        assert len(loaded.tagger.reason.demos) == 1


def test_method_as_a_tool(lm):
    class Adviser(dspy.Module):
        def __init__(self):
            super().__init__()
            self.tagger = program()
            self.agent = dspy.ReAct("film -> advice", tools=[self.tag])

        def tag(self, film: str) -> str:
            """The tag that the user would give."""
            return self.tagger(film=film, profile=HISTORY).tag

    twin = Adviser().deepcopy()
    assert twin.agent.tools["tag"].func.__self__ is twin, "an optimizer's copy asks its own program"
    assert twin.agent.tools["tag"](film=FILM) == "romance"
    assert "tagger.reason" in dict(twin.named_predictors())
