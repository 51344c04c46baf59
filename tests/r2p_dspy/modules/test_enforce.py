"""Assertions and backtracking: what a user, an optimizer and a metric see of them."""

import asyncio
import copy
import json
import re

import dspy
import pytest

from r2p_dspy import BUILT_IN, Assert, AssertionFailed, Enforce, Profile, Reason, Suggest, optimizing
from r2p_dspy.prompting.adapter import active_adapter
from tests.film import FILM, HISTORY, Film, ask, chat_completion, json_completion, program, xml_completion
from tests.scripted import completion, written

RIGHT = completion()
INVENTED = completion(evidence='[{"item": "9", "quote": "a whale"}]')  # asserts fail
UNAPPROVED = completion(draft="fantasy")  # a suggest fails
UNREADABLE = "I think romance."
SAID = "This answer is not accepted yet:"

ADAPTERS = [
    ("chat", dspy.ChatAdapter(), chat_completion),
    ("json", dspy.JSONAdapter(), json_completion),
    ("xml", dspy.XMLAdapter(), xml_completion),
]


def unmet(prediction):
    return [[verdict.check for verdict in attempt.unmet] for attempt in prediction.attempts]


class Two(dspy.Module):
    """Two predictors, one after the other."""

    def __init__(self):
        super().__init__()
        self.first = dspy.Predict("film -> mood")
        self.second = dspy.Predict("film, mood -> tag")

    def forward(self, film):
        return self.second(film=film, mood=self.first(film=film).mood)

    async def aforward(self, film):
        return await self.second.acall(film=film, mood=(await self.first.acall(film=film)).mood)


class TestBacktracking:
    def test_valid_answer_needs_one_attempt(self, scripted):
        engine = scripted(RIGHT)
        answer = ask(program())
        assert (answer.tag, answer.violations, unmet(answer), len(engine.requests)) == ("romance", [], [[]], 1)

    def test_feedback_and_retry(self, scripted):
        engine = scripted(INVENTED, RIGHT)
        answer = ask(program())
        assert unmet(answer) == [["cited", "backed"], []]
        assert [attempt.accepted for attempt in answer.attempts] == [False, True]
        assert answer.violations == []
        first, second = engine.requests
        assert [message.role for message in second.messages] == ["user", "assistant", "user"]
        assert second.messages[0] == first.messages[0], "what was asked stands as it was"
        assert second.messages[1].text == INVENTED
        lines = second.messages[2].text.splitlines()
        assert lines[:2] == [SAID, "There is no item 9; cite only 1, 2."]

    def test_suggest_retries_then_records(self, scripted):
        engine = scripted(UNAPPROVED)
        answer = ask(program(max_backtracks=1))
        assert len(engine.requests) == 2
        assert [verdict.check for verdict in answer.violations] == ["approved"]
        assert unmet(answer) == [["approved"], ["approved"]]

    def test_assertion_failed_holds_all_attempts(self, scripted):
        engine = scripted(INVENTED)
        with pytest.raises(
            AssertionFailed, match=r"after 3 attempts the check 'cited' still fails: There is no item 9"
        ) as caught:
            ask(program())
        assert len(engine.requests) == 3
        assert unmet(caught.value) == [["cited", "backed"]] * 3
        assert caught.value.prediction.tag == "romance"
        assert caught.value.prediction.reasoning.evidence[0].quote == "a whale"
        assert caught.value.prediction.reasoning.cited == ()
        assert len(str(caught.value).splitlines()) == 1

    def test_optimizing_records_unmet_asserts(self, scripted):
        scripted(INVENTED)
        with optimizing():
            answer = ask(program())
            with optimizing(False), pytest.raises(AssertionFailed):
                ask(program())
        assert [verdict.check for verdict in answer.violations] == ["cited", "backed"]
        with pytest.raises(AssertionFailed):
            ask(program())

    @pytest.mark.parametrize("most", [0, 1, 3])
    def test_max_backtracks_limits_attempts(self, scripted, most):
        engine = scripted(INVENTED)
        with pytest.raises(AssertionFailed, match=f"after {most + 1} attempts?"):
            ask(program(max_backtracks=most))
        assert len(engine.requests) == most + 1

    @pytest.mark.parametrize(("most", "calls"), [(0, 1), (1, 2), (None, 3)])
    def test_max_backtracks_of_a_check(self, scripted, most, calls):
        engine = scripted(completion(tag="long winded", draft="long winded"))
        brief = Suggest(
            lambda inputs, outcome: (len(outcome.tag) < 9, "Shorten it."), name="brief", max_backtracks=most
        )
        answer = ask(program(checks=[brief]))
        assert len(engine.requests) == len(answer.attempts) == calls
        assert [verdict.check for verdict in answer.violations] == ["brief"]

    def test_exhausted_check_does_not_stop_others(self, scripted):
        engine = scripted(INVENTED, INVENTED, RIGHT)
        never = Suggest(lambda inputs, outcome: (False, "No."), name="never", max_backtracks=0)
        assert [verdict.check for verdict in ask(program(checks=[never])).violations] == ["never"]
        assert len(engine.requests) == 3

    def test_negative_maximum(self):
        with pytest.raises(ValueError, match="max_backtracks of check 'brief' must be at least 0, not -1"):
            Assert(lambda inputs, outcome: True, name="brief", max_backtracks=-1)

    @pytest.mark.parametrize(
        ("why", "texts", "tag", "violations"),
        [
            ("asserts count before suggests", [INVENTED, UNAPPROVED, INVENTED], "romance", ["approved"]),
            ("fewer unmet checks win", [completion(tag="a", draft="b"), completion(tag="c", draft="c")], "c", []),
            (
                "of equals the latest",
                [completion(tag="a"), completion(tag="b"), completion(tag="c")],
                "c",
                ["approved"],
            ),
            ("what could be read before what could not", [completion(tag="a"), UNREADABLE, ""], "a", ["approved"]),
        ],
    )
    def test_best_attempt_wins(self, scripted, why, texts, tag, violations):
        scripted(*texts)
        answer = ask(program())
        assert (answer.tag, [verdict.check for verdict in answer.violations]) == (tag, violations)
        assert [attempt.accepted for attempt in answer.attempts].count(True) == 1

    def test_error_matches_its_attempt(self, scripted):
        scripted(INVENTED, UNREADABLE, UNREADABLE)
        with pytest.raises(AssertionFailed, match="'cited'") as caught:
            ask(program())
        assert caught.value.prediction.violations[0].check == "cited"

    def test_checks_see_typed_values(self, scripted):
        seen = []

        def short(inputs, outcome):
            seen.append((inputs.film, [item.id for item in inputs.items], outcome.evidence[0].item, outcome.tag))
            return len(outcome.tag) < 5, "Shorten the tag."

        engine = scripted(RIGHT)
        answer = ask(program(checks=[Suggest(short)], max_backtracks=1))
        assert seen == [(FILM, ["1", "2"], "1", "romance")] * 2
        assert answer.violations[0].message == "Shorten the tag."
        assert "Shorten the tag." in engine.prompts()[1]

    def test_other_errors_propagate(self, scripted):
        engine = scripted(ConnectionError("gone"))
        with pytest.raises(Exception, match="gone"), optimizing():
            ask(program())
        assert len(engine.requests) == 1

    @pytest.mark.parametrize(
        ("options", "named"),
        [
            ({"max_backtracks": -1}, "max_backtracks must be at least 0, not -1"),
            ({"checks": [len]}, r"wrap the function in Assert\(...\) or Suggest\(...\)"),
        ],
    )
    def test_invalid_checks(self, options, named):
        with pytest.raises(ValueError, match=named):
            program(**options)
        with pytest.raises(ValueError, match=named):
            Enforce(Reason(Film), **options)


def test_check_that_fails_stops_an_evaluation(scripted):
    def faulty(inputs, outcome):
        return {}[outcome.tag]

    scripted(RIGHT)
    rows = [dspy.Example(film=FILM, profile=HISTORY, tag="romance").with_inputs("film", "profile")] * 3
    evaluate = dspy.Evaluate(devset=rows, metric=lambda *_: 1.0, num_threads=1, max_errors=1, display_progress=False)
    with optimizing(), pytest.raises(Exception, match="Execution cancelled"):
        evaluate(program(checks=[Suggest(faulty)]))


def test_check_after_unknown_stage():
    with pytest.raises(ValueError, match="is to run after 'evidenc'; the template has analyse, requirements, "):
        program(checks=[Suggest(lambda inputs, outcome: True, after="evidenc", name="mine")])


class TestUnreadable:
    @pytest.mark.parametrize(
        ("why", "text", "fault"),
        [
            ("no field at all", UNREADABLE, "the field requirements is missing."),
            ("a field left out", completion(tag=None), "the field tag is missing."),
            ("a field not of its type", completion(verification="yes"), "the field verification is not of its type."),
            ("nothing", "", "the field requirements is missing."),
            pytest.param(
                "a marker within a line",
                RIGHT.replace("\n\n[[ ## tag", " [[ ## tag"),
                "the field tag is missing.",
                marks=pytest.mark.chat,
            ),
        ],
    )
    def test_feedback_names_the_fault(self, scripted, why, text, fault):
        engine = scripted(text, RIGHT)
        answer = ask(program())
        assert (answer.tag, len(answer.attempts)) == ("romance", 2)
        assert not any(verdict.ok for verdict in answer.attempts[0].verdicts), "nothing can be said to hold"
        last = engine.requests[1].messages[-2:]
        assert last[0].text == (text or "(nothing)")
        assert last[1].text.splitlines()[:2] == [SAID, f"Write every field, each of its type: {fault}"]

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (UNREADABLE, "the field requirements is missing; it ends: "),
            ("", "it is empty \\(look at the server's answer"),
        ],
    )
    def test_no_readable_attempt(self, scripted, text, why):
        scripted(text)
        with pytest.raises(AssertionFailed, match=f"after 3 attempts the answer cannot be read: {why}") as caught:
            ask(program())
        prediction = caught.value.prediction
        assert (prediction.tag, prediction.reasoning.evidence, prediction.reasoning.cited) == (None, None, ())
        assert [item.id for item in prediction.retrieved] == ["1", "2"]
        with optimizing(), dspy.context(trace=[]):
            assert ask(program()).tag is None
            assert ask(Enforce(dspy.Predict("film -> tag")), profile="").tag is None
            assert dspy.settings.trace == [], "no attempt was accepted"

    @pytest.mark.parametrize("most", [0, 2])
    def test_no_json_fallback_call(self, scripted, most):
        engine = scripted(UNREADABLE)
        with optimizing():
            ask(program(max_backtracks=most))
        assert len(engine.requests) == most + 1
        reminders = {prompt.splitlines()[-1] for prompt in engine.prompts()}
        assert reminders == {active_adapter().user_message_output_requirements(Reason(Film).signature)}

    def test_long_attempt_is_shortened(self, scripted):
        engine = scripted("x" * 9000, RIGHT)
        ask(program())
        assert engine.requests[1].messages[1].text == "x" * 2000 + " …"


@pytest.mark.parametrize(("name", "adapter", "write"), ADAPTERS, ids=[row[0] for row in ADAPTERS])
class TestAdapters:
    def test_valid_answer(self, scripted, name, adapter, write):
        engine = scripted(write())
        with dspy.context(adapter=adapter):
            answer = ask(program())
        assert (answer.tag, answer.violations, len(engine.requests)) == ("romance", [], 1)
        assert answer.outcome.order == ("requirements", "evidence", "preferences", "draft", "verification")

    def test_retry_in_the_adapters_format(self, scripted, name, adapter, write):
        engine = scripted(write(tag="fantasy"), write())
        with dspy.context(adapter=adapter):
            answer = ask(program())
        assert unmet(answer) == [["approved"], []]
        retry = engine.requests[1].messages[-1].text
        assert "The tag must be the approved draft, romance." in retry
        assert adapter.user_message_output_requirements(program().reason.signature) in retry

    def test_unreadable(self, scripted, name, adapter, write):
        engine = scripted("romance, I think", write())
        with dspy.context(adapter=adapter):
            answer = ask(program())
        assert (answer.tag, len(engine.requests)) == ("romance", 2)
        assert "the field requirements is missing." in engine.prompts()[1]

    def test_wrong_type(self, scripted, name, adapter, write):
        engine = scripted(write(verification="maybe"), write())
        with dspy.context(adapter=adapter):
            assert ask(program()).tag == "romance"
        fault = re.search("each of its type: (.*)", engine.prompts()[1])[1]
        assert fault == "the field verification is not of its type."

    def test_out_of_order(self, scripted, name, adapter, write):
        if name == "json":
            held = json.loads(write())
            wrong = json.dumps({"draft": held.pop("draft"), **held})
        else:
            parts = write().split("\n\n")
            wrong = "\n\n".join([parts[3], *parts[:3], *parts[4:]])
        scripted(wrong, write())
        with dspy.context(adapter=adapter):
            assert unmet(ask(program())) == [["stages"], []]

    def test_users_adapter_is_unchanged(self, scripted, name, adapter, write):
        before = dict(vars(adapter))
        scripted(write())
        with dspy.context(adapter=adapter):
            ask(program())
        assert vars(adapter) == before


class TestTrace:
    def test_one_step_of_the_original_predictor(self, scripted):
        scripted(INVENTED, RIGHT)
        module = program()
        with dspy.context(trace=[]):
            answer = ask(module)
            ((predictor, inputs, outputs),) = dspy.settings.trace
        assert predictor is module.reason
        assert set(inputs) == {"film", "profile"}
        assert (inputs["film"], inputs["profile"]) == (FILM, Profile.of(HISTORY).local())
        assert list(outputs.keys()) == list(module.reason.signature.output_fields)
        assert outputs.evidence == answer.reasoning.evidence
        assert "accepted" not in str((inputs, outputs))

    def test_predictor_signature_is_unchanged(self, scripted):
        scripted(INVENTED, RIGHT)
        module = program()
        before = module.reason.signature
        ask(module)
        assert module.reason.signature is before
        assert module.reason.demos == []

    def test_two_predictors_keep_two_steps(self, scripted):
        engine = scripted(
            written(mood="sad"), written(tag="a very long tag"), written(mood="grave"), written(tag="drama")
        )
        two = Two()
        module = Enforce(
            two, [Assert(lambda inputs, outcome: (len(outcome.tag) < 9, "Shorten the tag."), name="short")]
        )
        with dspy.context(trace=[]):
            answer = module(film=FILM)
            trace = list(dspy.settings.trace)
        assert (answer.tag, unmet(answer)) == ("drama", [["short"], []])
        assert [(entry[0], entry[1]) for entry in trace] == [
            (two.first, {"film": FILM}),
            (two.second, {"film": FILM, "mood": "grave"}),
        ]
        assert [dict(entry[2]) for entry in trace] == [{"mood": "grave"}, {"tag": "drama"}]
        assert [SAID in prompt for prompt in engine.prompts()] == [False, False, True, True]
        assert engine.requests[2].messages[1].text == written(mood="sad"), "each sees its own failed attempt"
        assert engine.requests[3].messages[1].text == written(tag="a very long tag")

    def test_check_compares_predictors(self, scripted):
        def agree(inputs, outcome):
            first, second = outcome.predictors["first"], outcome.predictors["second"]
            return first["mood"] in second["tag"], f"Let the tag tell of the mood {first['mood']}."

        texts = (
            written(mood="sad"),
            written(tag="drama"),
            written(mood="sad"),
            written(tag="sad drama"),
        )
        engine = scripted(*texts)
        assert Enforce(Two(), [Assert(agree)])(film=FILM).tag == "sad drama"
        assert "Let the tag tell of the mood sad." in engine.prompts()[-1]

    def test_steps_hold_details(self, scripted):
        scripted(INVENTED, RIGHT)
        with dspy.context(trace=[]):
            answer = ask(program())
            [(_, _, step)] = dspy.settings.trace
        assert step.details.attempts == answer.attempts
        assert "attempts" not in step

    def test_failed_attempt_leaves_no_step(self, scripted):
        scripted(written(mood="sad"), "no field", written(mood="grave"), written(tag="drama"))
        with dspy.context(trace=[]):
            assert Enforce(Two())(film=FILM).tag == "drama"
            assert [dict(entry[2]) for entry in dspy.settings.trace] == [{"mood": "grave"}, {"tag": "drama"}]

    def test_trace_size_is_limited(self, scripted):
        scripted(RIGHT)
        with dspy.context(trace=[], max_trace_size=3):
            for _ in range(5):
                ask(program())
            assert len(dspy.settings.trace) == 3

    @pytest.mark.parametrize(
        ("module", "names"),
        [
            (program(), ["reason"]),
            (Enforce(Reason(Film), BUILT_IN), ["reason"]),
            (Enforce(Enforce(Reason(Film))), ["reason"]),
            (Enforce(program()), ["reason"]),
            (Enforce(dspy.Predict("film -> tag")), ["predict"]),
            (Enforce(dspy.ChainOfThought("film -> tag")), ["predict"]),
            (Enforce(Two()), ["first", "second"]),
        ],
        ids=lambda value: None if isinstance(value, list) else type(value).__name__,
    )
    def test_state_names_are_the_modules_own(self, module, names):
        assert [name for name, _ in module.named_predictors()] == names
        assert set(module.dump_state()) == set(names)

    @pytest.mark.parametrize(
        "duplicate", [copy.deepcopy, lambda module: module.deepcopy(), lambda module: module.reset_copy()]
    )
    def test_deepcopy_enforces_its_own_predictor(self, scripted, duplicate):
        original = program()
        module = duplicate(original)
        assert module.enforce.module is module.reason is not original.reason
        assert [name for name, _ in module.named_parameters()] == ["reason"]

    def test_shallow_copy_enforces_its_own_predictor(self, scripted):
        scripted(RIGHT)
        original = program()
        original.set_lm(dspy.settings.lm)  # its engine holds a lock, which cannot be copied
        module = original.deepcopy()
        assert module.enforce.module is module.reason is not original.reason
        module.reason.demos = [{"film": "demo", "profile": HISTORY, **ask(module).toDict()}]
        assert [name for name, _ in module.named_parameters()] == ["reason"]
        assert original.reason.demos == []

    def test_replaced_predictor_is_enforced(self, scripted):
        scripted(RIGHT)
        module = program()
        other = Reason(Film)
        module.map_named_predictors(lambda predictor: other)
        assert module.enforce.module is other


class TestAsync:
    @pytest.mark.parametrize(
        ("why", "texts"),
        [("right at once", [RIGHT]), ("backtracking", [INVENTED, RIGHT]), ("unreadable", [UNREADABLE, "", RIGHT])],
    )
    def test_equals_sync(self, scripted, why, texts):
        results = []
        for call in (ask, lambda module: asyncio.run(module.acall(film=FILM, profile=HISTORY))):
            engine = scripted(*texts)
            with dspy.context(trace=[]):
                answer = call(program())
                entries = [(entry[1], dict(entry[2])) for entry in dspy.settings.trace]
            results.append((answer.toDict(), entries, engine.prompts()))
        assert results[0] == results[1]

    def test_raises_as_sync(self, scripted):
        scripted(INVENTED)
        with pytest.raises(AssertionFailed, match="after 3 attempts") as caught:
            asyncio.run(program().acall(film=FILM, profile=HISTORY))
        assert caught.value.prediction.tag == "romance"

    def test_around_other_modules(self, scripted):
        scripted(written(mood="sad"), written(tag="drama"))
        assert asyncio.run(Enforce(Two()).acall(film=FILM)).tag == "drama"


def of_film(request):
    """What a model would answer that knows each film's number; at first it invents an item."""
    prompt = "\n".join(message.text for message in request.messages)
    number = re.search(r"film number (\d+)", prompt)[1]
    right = {
        "requirements": f"requirement {number}",
        "evidence": f'[{{"item": "1", "quote": "seen {number}"}}]',
        "preferences": "[]",
        "draft": f"tag {number}",
        "tag": f"tag {number}",
    }
    return (
        completion(**right) if SAID in prompt else completion(**{**right, "evidence": '[{"item": "7", "quote": "x"}]'})
    )


def test_threads_are_separate(scripted):
    engine = scripted(of_film)
    module = program()
    calls = [
        (module, {"film": f"film number {n}", "profile": [{"id": f"own {n}", "text": f"film seen {n}", "label": "x"}]})
        for n in range(64)
    ]
    with dspy.context(trace=[]):
        answers = dspy.Parallel(num_threads=8, disable_progress_bar=True, timeout=0)(calls)
    assert len(engine.requests) == 128
    for n, answer in enumerate(answers):
        assert (answer.tag, answer.reasoning.requirements) == (f"tag {n}", f"requirement {n}")
        assert [item.id for item in answer.reasoning.cited] == [f"own {n}"]
        assert unmet(answer) == [["cited"], []]


@pytest.mark.filterwarnings("ignore")
def test_evaluate_completes_while_optimizing(scripted, caplog):
    rows = [dspy.Example(film=f"film {n}", profile=HISTORY, tag="x").with_inputs("film", "profile") for n in range(12)]
    scripted(INVENTED)
    evaluate = dspy.Evaluate(
        devset=rows, metric=lambda row, got, trace=None: 1.0, num_threads=2, display_progress=False
    )
    with optimizing():
        assert evaluate(program(max_backtracks=0)).score == 100
    with pytest.raises(Exception, match="cancelled due to errors"):
        evaluate(program(max_backtracks=0))


def test_usage_counts_all_attempts(scripted):
    scripted(INVENTED, RIGHT)
    with dspy.track_usage() as usage:
        ask(program())
    assert sum(len(entries) for entries in usage.usage_data.values()) == 2
    with dspy.context(track_usage=True):
        scripted(INVENTED, RIGHT)
        assert ask(program()).get_lm_usage()["scripted/test"]["total_tokens"] == 30


def test_first_of_several_completions_is_judged(scripted):
    engine = scripted(UNAPPROVED, RIGHT, RIGHT, UNAPPROVED)
    module = program()
    module.reason.config = {"n": 2, "temperature": 1.0}
    answer = ask(module)
    assert unmet(answer) == [["approved"], []]
    assert engine.requests[2].messages[1].text == UNAPPROVED
