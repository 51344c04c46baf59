"""Correcting a running answer: what the monitor sees, what the model reads, and what the prediction says of it."""

import asyncio

import dspy
import pytest
from dspy.lm15 import Message, Response, TextPart, Usage

from r2p_dspy import TEMPLATE, Assert, Evidence, optimizing
from r2p_dspy.checks import BUILT_IN
from r2p_dspy.decoding.carriers import ThoughtTags, field_marks
from r2p_dspy.decoding.loops import stopping_loops
from r2p_dspy.decoding.monitor import Monitor
from r2p_dspy.decoding.steering import generate_steered, next_steer
from r2p_dspy.errors import CheckError
from r2p_dspy.outcome import Inputs, unshadowed
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.adapter import active_adapter
from tests.film import FILM, HISTORY, ask, program
from tests.r2p_dspy.modules.test_thinking import ANSWER, thought
from tests.scripted import STAGES, AsyncScriptedEngine, ScriptedEngine, after, completion, opening

MARKS = field_marks(active_adapter(), {name: name for name in STAGES if name != "tag"}, ["tag"])
pytestmark = pytest.mark.not_json  # JSON answers are corrected by a retry
GOOD = completion()
EVIDENCE = STAGES["evidence"]
INPUTS = Inputs(fields={"film": FILM}, items=Profile.of(HISTORY).local())


class ScriptedSegment:
    """Writes a text, letter by letter; what it is stopped at and continued with is written into `log`."""

    def __init__(self, texts, log):
        self.texts, self.log, self.written = texts, log, 0

    def __iter__(self):
        for letter in self.texts[0]:
            self.written += 1
            yield letter

    def stop(self):
        self.log.append(self.written)

    def resume(self, kept, note, opening):
        self.log.append((kept, note, opening))
        return ScriptedSegment(self.texts[1:], self.log) if len(self.texts) > 1 else None


class SteerableEngine(ScriptedEngine):
    """A scripted engine that can be steered: its texts are the segments of its answers, in order."""

    def complete(self, request):
        if (steer := next_steer()) is None:
            return super().complete(request)
        self.requests.append(request)
        self.log = []
        text, _ = generate_steered(ScriptedSegment(self.texts, self.log), steer)
        usage = Usage(input_tokens=10, output_tokens=5)
        message = Message.assistant([TextPart(text)])
        return Response(id=None, model="test", message=message, finish_reason="stop", usage=usage)


@pytest.fixture
def steerable():
    """steerable(text, …) configures a model that writes these segments, and returns its engine."""

    def make(*texts, **attributes):
        engine = SteerableEngine(*texts, **attributes)
        options = {"engine": engine, "async_engine": AsyncScriptedEngine(engine), "cache": False, "num_retries": 0}
        context = dspy.context(lm=dspy.LM("scripted/test", **options))
        context.__enter__()
        contexts.append(context)
        return engine

    contexts = []
    yield make
    for context in reversed(contexts):
        context.__exit__(None, None, None)


def read(text, running=None, checks=BUILT_IN, most=2, **options):
    """What a monitor says of a text that comes letter by letter, and how much of it there was then."""
    monitor = Monitor(running or MARKS, TEMPLATE, checks, INPUTS, most, **options)
    for end in range(1, len(text) + 1):
        if (correction := monitor(text[:end])) is not None:
            return correction, text[:end], monitor
    return None, text, monitor


@pytest.mark.parametrize("text", [GOOD, f"Well then.\n\n{GOOD}", completion(evidence=EVIDENCE + "\n")])
def test_good_answer_is_left_alone(text):
    assert read(text)[0] is None


@pytest.mark.parametrize("text", [thought(), f"<think>\n{thought()}\n</think>\n\n{ANSWER}", f"Hm. {thought()}"])
def test_good_thought_is_left_alone(text):
    assert read(text, ThoughtTags(TEMPLATE))[0] is None


WRONG = [
    ("an item that is not there", {"evidence": EVIDENCE.replace('"1"', '"7"')}, "evidence", "cited", "no item 7"),
    ("an invented quote", {"evidence": EVIDENCE.replace("lighthouse", "boat")}, "evidence", "quoted", "word for word"),
    ("a stage left out", {"requirements": None}, "requirements", "stages", "The stage requirements comes first."),
    ("an empty stage", {"requirements": ""}, "requirements", "stages", "Fill the stage requirements."),
    ("no JSON", {"evidence": '{"a": 1}'}, "evidence", "parsed", "The stage evidence is not of its type."),
    ("a label of another item", {"preferences": '[{"statement": "x", "items": ["1"], "label": "fantasy"}]'},
     "preferences", "labelled", "The label of item 1 is romance"),
    ("an item that is no evidence", {"preferences": '[{"statement": "x", "items": ["2"]}]'},
     "preferences", "backed", "must name items of the evidence"),
    ("the end left out", {"verification": None}, "verification", "stages", "The stage verification comes first."),
    ("a stage without end", {"requirements": "so much to say " + "and one more thing " * 200},
     "requirements", "stages", "must be short"),
    ("a loop", {"requirements": "the film " * 40}, "requirements", "stages", "must be short"),
]  # fmt: skip


@pytest.mark.parametrize(("why", "changes", "stage", "check", "message"), WRONG, ids=[case[0] for case in WRONG])
def test_mistake_is_corrected_at_once(why, changes, stage, check, message):
    correction, so_far, monitor = read(completion(**changes))
    (intervention,) = monitor.interventions
    assert (intervention.stage, intervention.check) == (stage, check) and message in intervention.message
    assert message in correction.note
    good = GOOD.split("\n\n")[: list(STAGES).index(stage)]
    assert so_far[: correction.kept] == "\n\n".join(good)
    assert correction.opening == f"\n\n{opening(stage)}\n"
    assert len(so_far) < len(completion(**changes)) - 10, "before the end"


def test_long_preamble_is_cut_short():
    correction, so_far, _ = read("Okay, let me think about what this user may want of me. " * 60, stage_characters=200)
    assert correction.kept <= len(so_far) and correction.opening == f"\n\n{opening('requirements')}\n"
    assert len(so_far) < 200 + 100


@pytest.mark.parametrize(
    ("sentence", "times"),
    [
        ("The user likes quiet films, and says so.", 30),
        ("Этот человек любит тихие фильмы и часто пишет о море.", 20),
        ("هذا المستخدم يحب الأفلام الهادئة ويكتب عن البحر.", 20),
        ("यह व्यक्ति शांत फ़िल्में पसंद करता है और समुद्र के बारे में लिखता है।", 15),
        ("この人は静かな映画が好きで、海について書きます。", 40),
        ("A title\n" + "=" * 120, 1),
    ],
    ids=["English", "Russian", "Arabic", "Hindi", "Japanese", "a ruler"],
)
def test_a_stage_has_room_in_every_script(sentence, times):
    draft = " ".join(f"{number} {sentence}" for number in range(times))
    correction, *_ = read(completion(draft=draft))
    assert correction is None or "short" not in correction.message


@pytest.mark.parametrize(
    ("why", "text", "kept", "opening"),
    [
        ("a quote", thought(evidence=[Evidence(item="1", quote="x")]), "</analyse>\n<synthesise>", "\n<evidence>\n"),
        ("left out", thought().replace("evidence>", "proof>"), "</proof>", "\n<evidence>\n"),
        (
            "too early",
            "<think>\n<respond>\n<draft>\nx\n",
            "<think>\n<respond>",
            "\n</respond>\n<analyse>\n<requirements>\n",
        ),
        ("the end", "<think>\nSo.\n</think>\n\nthe answer", "<think>\nSo.", "\n<analyse>\n<requirements>\n"),
    ],
)
def test_thought_is_corrected_within_its_groups(why, text, kept, opening):
    correction, so_far, _ = read(text, ThoughtTags(TEMPLATE))
    assert so_far[: correction.kept].endswith(kept)
    assert correction.opening == opening


ENDLESS = "The post is sad. " * 80
THOUGHT = f"<think>\n{thought()}\n</think>\n\n[[ ## tag ## ]]\n"


@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.parametrize(
    ("begun", "running"),
    [(completion(tag=""), MARKS), (completion(evidence="[]", tag=""), MARKS), (THOUGHT, ThoughtTags(TEMPLATE))],
)
def test_an_answer_that_repeats_itself_for_ever_is_ended(begun, running, most):
    """Whether or not its stages were good, and whatever the number of interventions."""
    begun = begun.removesuffix("\n\n[[ ## completed ## ]]")
    correction, text, monitor = read(begun + ENDLESS, running, checks=(), most=most)
    assert correction.ends and correction.kept == len(text) < len(begun) + 800
    assert [each.message for each in monitor.interventions] == ["The answer repeats itself, and ends here."]
    log = []
    twin = Monitor(running, TEMPLATE, (), INPUTS, most)
    answer, _ = generate_steered(ScriptedSegment([begun + ENDLESS, "more"], log), twin)
    assert answer == text and log == [len(text)]
    assert read(begun + ENDLESS[:400], running, checks=(), most=most)[0] is None, "a refrain"
    with stopping_loops(False):
        assert read(begun + ENDLESS, running, checks=(), most=most)[0] is None, "as stop_loops=False asks"


def test_no_correction_after_the_last_intervention():
    bad = completion(evidence=EVIDENCE.replace('"1"', '"7"'))
    assert read(bad, most=0)[0] is None
    correction, so_far, monitor = read(bad, most=1)
    still_bad = completion(evidence=EVIDENCE.replace('"1"', '"8"'))
    text = so_far[: correction.kept] + correction.opening + after("evidence", still_bad)
    assert monitor(text) is None


def test_custom_check_runs_when_its_stage_closes():
    brief = Assert(
        lambda inputs, outcome: (len(outcome.requirements) < 9, "Be brief."), after="requirements", name="brief"
    )
    correction, so_far, monitor = read(GOOD, checks=[brief])
    assert (monitor.interventions[0].check, correction.kept) == ("brief", 0)
    assert "preferences" not in so_far


@pytest.mark.parametrize(
    ("group", "last"), [("analyse", "requirements"), ("synthesise", "preferences"), ("respond", "verification")]
)
def test_check_after_a_group_runs_when_its_last_stage_ends(group, last):
    check = Assert(lambda _, outcome: (last not in unshadowed(outcome).stages, "Not so."), after=group, name="mine")
    _, _, monitor = read(GOOD, checks=[check])
    assert [(each.stage, each.check) for each in monitor.interventions] == [(last, "mine")]


@pytest.mark.parametrize("name", ["order", "error", "answers", "fields", "tag"])
def test_check_of_an_unwritten_output_waits(name):
    check = Assert(lambda _, outcome: (getattr(outcome, name) == "x", "Be x."), after="evidence", name="later")
    assert read(GOOD, checks=[check], outputs=[name])[0] is None


def test_check_of_unwritten_fields_waits():
    later = Assert(lambda _, outcome: (outcome.tag != "sad", "Be merry."), after="requirements", name="later")
    assert read(GOOD, checks=[later])[0] is None


class TestR2P:
    def test_faulty_check_raises_check_error(self, steerable):
        def broken(inputs, outcome):
            raise KeyError("oops")

        steerable(GOOD)
        with pytest.raises(CheckError, match="check 'broken' failed with KeyError"):
            ask(program(checks=[Assert(broken, after="requirements")]))

    def test_corrected_answer_shows_no_trace(self, steerable):
        bad = completion(evidence=EVIDENCE.replace('"1"', '"7"'))
        rest = after("evidence", GOOD)
        engine = steerable(bad, rest)
        answer = ask(program())
        assert (answer.tag, answer.violations, answer.correction_mode) == ("romance", [], "stream")
        assert len(engine.requests) == 1
        stopped, (_, note, opened), ended = engine.log
        assert stopped < len(bad) and ended == len(rest)
        assert note == "\n(Wait. There is no item 7; cite only 1, 2.)" and opened == f"\n\n{opening('evidence')}\n"
        (intervention,) = answer.interventions
        assert (intervention.stage, intervention.check) == ("evidence", "cited")
        first, second = answer.attempts
        assert [verdict.check for verdict in first.unmet] == ["cited"] and not first.accepted, "metrics see it"
        assert second.unmet == [] and second.accepted
        assert "Wait" not in str(answer.outcome)

    def test_remaining_mistakes_become_feedback(self, steerable):
        bad = completion(evidence=EVIDENCE.replace('"1"', '"7"'))
        engine = steerable(bad)  # continued, it has no room
        with optimizing():
            answer = ask(program(max_backtracks=1))
        assert len(engine.requests) == 2 and answer.violations
        assert "the field requirements is missing" not in str(answer.attempts)

    def test_async_too(self, steerable):
        bad = completion(evidence=EVIDENCE.replace('"1"', '"7"'))
        rest = after("evidence", GOOD)
        steerable(bad, rest)
        answer = asyncio.run(program().acall(film=FILM, profile=HISTORY))
        assert (answer.tag, len(answer.interventions)) == ("romance", 1)

    def test_max_interventions_zero(self, steerable):
        steerable(completion(evidence=EVIDENCE.replace('"1"', '"7"')))
        with optimizing():
            answer = ask(program(max_interventions=0, max_backtracks=0))
        assert (answer.correction_mode, answer.interventions) == ("retry", [])

    def test_trace_holds_the_corrected_answer(self, steerable):
        bad = completion(evidence=EVIDENCE.replace('"1"', '"7"'))
        rest = after("evidence", GOOD)
        steerable(bad, rest)
        with dspy.context(trace=[]):
            ask(program())
            ((_, _, traced),) = dspy.settings.trace
        assert traced.evidence == [Evidence(item="1", quote="a lighthouse")]
        assert set(traced.keys()) == set(STAGES)
