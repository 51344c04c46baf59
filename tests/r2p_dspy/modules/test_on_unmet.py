"""What a call gives back when an assert stays unmet: an error, the best attempt, or a fallback's answer."""

import asyncio
import copy
import gc
import logging
import pickle

import dspy
import pytest

from r2p_dspy import (
    R2P,
    All,
    Assert,
    AssertionFailed,
    Composite,
    ConfigError,
    CrossReference,
    Enforce,
    R2PPrediction,
    Reason,
    Suggest,
    checks,
    optimizing,
)
from tests.film import FILM, HISTORY, Film, ask, program
from tests.scripted import completion

RIGHT = completion()
INVENTED = completion(evidence='[{"item": "9", "quote": "a whale"}]')  # asserts fail
SCORE = Composite(lambda example, prediction: float(example.tag == prediction.tag))
GOLD = dspy.Example(film=FILM, profile=HISTORY, tag="romance").with_inputs("film", "profile")


def frequent(failure):
    """The label of the first item of the whole history."""
    return {"tag": failure.inputs["profile"][0]["label"], "why": "it is dropped"}


async def late(failure):
    await asyncio.sleep(0)
    return frequent(failure)


class Fallback:
    def __call__(self, failure):
        return dspy.Prediction(tag="fantasy")


def unmet(prediction):
    return [verdict.check for verdict in prediction.violations]


def modules(**options):
    """Each module that has the setting, with the answer's other fields."""
    few = {"max_backtracks": 0, **options}
    enforced = Enforce(Reason(Film), checks.BUILT_IN, max_backtracks=0)
    return {
        "R2P": program(**few),
        "R2P with candidates": program(candidates=2, **few),
        "Enforce": Enforce(Reason(Film), checks.BUILT_IN, **few),
        "CrossReference": CrossReference(enforced, "tag", 2, **options),
    }


KINDS = pytest.mark.parametrize("kind", modules())


def aask(module):
    return asyncio.run(module.acall(film=FILM, profile=HISTORY))


BOTH = pytest.mark.parametrize("call", [ask, aask])


@KINDS
@BOTH
class TestPolicy:
    def test_raise_is_the_default(self, scripted, kind, call):
        for options in ({}, {"on_unmet": "raise"}):
            scripted(INVENTED)
            with pytest.raises(AssertionFailed, match="the check 'cited' still fails") as caught:
                call(modules(**options)[kind])
            failure = caught.value
            assert (failure.check, failure.prediction.tag, failure.completion) == ("cited", "romance", INVENTED)
            assert failure.inputs == {"film": FILM, "profile": HISTORY}

    def test_return_gives_the_best_attempt(self, scripted, kind, call):
        scripted(INVENTED)
        answer = call(modules(on_unmet="return")[kind])
        assert (type(answer), answer.tag, unmet(answer)) == (R2PPrediction, "romance", ["cited", "backed"])
        with optimizing():
            recorded = call(modules()[kind])
        assert (answer.toDict(), answer.details) == (recorded.toDict(), recorded.details), "as optimizers see it"

    @pytest.mark.parametrize(
        ("name", "fallback", "tag"), [("frequent", frequent, "romance"), ("Fallback", Fallback(), "fantasy")]
    )
    def test_fallback_answers(self, scripted, kind, call, name, fallback, tag):
        scripted(INVENTED)
        answer = call(modules(on_unmet=fallback)[kind])
        note = f"the fallback {name!r} answered, because the check 'cited' is unmet"
        assert (answer.tag, answer.decision, answer.warnings) == (tag, note, [note])
        assert (answer.reasoning, answer.reasoning.cited) == ("", ()), "nothing that was rejected supports it"
        assert (answer.outcome.fields["tag"], answer.completion) == (tag, INVENTED)
        assert "Decision:\n- the fallback" in answer.explain()

    def test_metrics_count_it_as_unmet(self, scripted, kind, call):
        scripted(INVENTED)
        with optimizing():
            recorded = call(modules()[kind])
        answer = call(modules(on_unmet=frequent)[kind])
        assert answer.attempts == recorded.attempts and unmet(answer) == unmet(recorded)
        assert [SCORE(GOLD, each) for each in (answer, recorded)] == [0.0, 0.0]
        assert SCORE(GOLD, answer).parts == SCORE(GOLD, recorded).parts
        assert not SCORE.accepts(GOLD, answer)

    def test_met_asserts_and_optimizing_ask_no_fallback(self, scripted, kind, call):
        def never(failure):
            raise AssertionError("asked")

        scripted(RIGHT)
        assert call(modules(on_unmet=never)[kind]).tag == "romance"
        scripted(INVENTED)
        with optimizing():
            assert unmet(call(modules(on_unmet=never)[kind])) == ["cited", "backed"]

    def test_errors_of_a_fallback_propagate(self, scripted, kind, call):
        def gone(failure):
            raise LookupError("no such user")

        scripted(INVENTED)
        with pytest.raises(LookupError, match="no such user") as caught:
            call(modules(on_unmet=gone)[kind])
        assert isinstance(caught.value.__cause__, AssertionFailed)

    @pytest.mark.parametrize(
        ("result", "said"),
        [(None, "returned NoneType; let it return a dict or a prediction"), ("romance", "returned str;")],
    )
    def test_what_a_fallback_may_return(self, scripted, kind, call, result, said):
        scripted(INVENTED)
        with pytest.raises(ConfigError, match=f"the fallback '<lambda>' {said}"):
            call(modules(on_unmet=lambda failure: result)[kind])
        with pytest.raises(ConfigError, match="the fallback '<lambda>' returned no 'tag'; it needs tag"):
            call(modules(on_unmet=lambda failure: {"mood": "sad"})[kind])


@KINDS
def test_async_fallback(scripted, kind):
    scripted(INVENTED)
    assert aask(modules(on_unmet=late)[kind]).tag == "romance"


@KINDS
def test_async_fallback_needs_an_async_call(scripted, kind, recwarn):
    scripted(INVENTED)
    with pytest.raises(ConfigError, match=r"is async; call the program with `await program.acall\(...\)`"):
        ask(modules(on_unmet=late)[kind])
    gc.collect()  # what other tests left unclosed is warned of here too
    assert not [warning for warning in recwarn if "'late' was never awaited" in str(warning.message)]


@KINDS
@pytest.mark.parametrize(
    ("on_unmet", "said"),
    [
        ("retrun", 'on_unmet is "raise", "return" or a function of the AssertionFailed, not \'retrun\''),
        (None, "not None"),
        (dspy.Predict("film -> tag"), r"on_unmet takes no module; wrap it, as in on_unmet=lambda failure: module"),
    ],
)
def test_unusable_policy_is_refused_at_once(kind, on_unmet, said):
    with pytest.raises(ConfigError, match=said):
        modules(on_unmet=on_unmet)[kind]


def test_unreadable_answer(scripted):
    scripted("I think romance.")
    answer = ask(program(on_unmet="return"))
    assert (answer.tag, answer.toDict(), answer.completion) == (None, {"tag": None}, "I think romance.")
    assert ask(program(on_unmet=frequent)).tag == "romance"


def test_fallback_to_another_program(scripted):
    """Its own reasoning supports its answer; its attempts stand after the failed ones."""
    scripted(INVENTED, RIGHT)
    better = program()
    answer = ask(program(max_backtracks=0, on_unmet=lambda failure: better(**failure.inputs)))
    assert (answer.tag, [item.id for item in answer.reasoning.cited]) == ("romance", ["m7"])
    assert [len(attempt.unmet) for attempt in answer.attempts] == [2, 0]
    assert unmet(answer) == ["cited", "backed"] and SCORE(GOLD, answer) == 0.0


def test_fallback_to_the_best_attempt(scripted, caplog):
    def logged(failure):
        logging.getLogger("app").warning("unmet: %s", failure.check)
        return failure.prediction

    scripted(INVENTED)
    with caplog.at_level(logging.WARNING, "app"):
        answer = ask(program(on_unmet=logged))
    assert caplog.messages == ["unmet: cited"]
    assert (len(answer.attempts), answer.reasoning.draft, answer.decision.split()[2]) == (3, "romance", "'logged'")


def test_trace_has_the_accepted_attempt_whatever_the_policy(scripted):
    for on_unmet in ("return", frequent):
        scripted(INVENTED)
        module = program(max_backtracks=0, on_unmet=on_unmet)
        with dspy.context(trace=[]):
            ask(module)
            [(predictor, _, step)] = dspy.settings.trace
        assert predictor is module.reason and step.tag == "romance"


def test_candidates_ask_the_fallback_once(scripted):
    asked = []
    scripted(INVENTED)
    ask(program(candidates=3, max_backtracks=0, on_unmet=lambda failure: asked.append(failure) or {"tag": "x"}))
    assert len(asked) == 1 and len(asked[0].prediction.candidates) == 3


@pytest.mark.parametrize("on_unmet", ["return", frequent])
def test_setting_stays_in_copies_and_pickles(on_unmet):
    module = program(on_unmet=on_unmet)
    for twin in (copy.copy(module), copy.deepcopy(module), module.reset_copy(), pickle.loads(pickle.dumps(module))):
        assert twin.on_unmet == on_unmet


class TestRelaxing:
    def test_advice_works(self, scripted):
        scripted(completion(evidence='[{"item": "1", "quote": "a whale"}]'))
        with pytest.raises(AssertionFailed) as caught:
            ask(program())
        assert str(caught.value).endswith(
            "(relax it with checks=[Suggest(checks.quoted)], raise max_backtracks, or answer anyway with "
            'on_unmet="return")'
        )
        advice = eval("dict(checks=[Suggest(checks.quoted)])", {"Suggest": Suggest, "checks": checks})
        answer = ask(program(**advice))
        assert (answer.tag, unmet(answer), len(answer.attempts)) == ("romance", ["quoted"], 3)
        assert answer.violations[0].stage == "evidence"
        assert SCORE(GOLD, answer) == pytest.approx(0.7 + 0.1 + 0.15 * 3 / 4 + 0.05), "it weighs, and is no gate"

    @pytest.mark.parametrize(
        ("text", "own", "advice"),
        [
            (RIGHT, [Assert(lambda inputs, outcome: False, name="mine")], "(relax it with checks=[Suggest(mine)], "),
            ("I think romance.", [], "(raise max_backtracks, or try another adapter"),
            ("I think romance.", [Suggest(checks.parsed)], "the field requirements is missing; it ends: "),
        ],
    )
    def test_advice_for_other_checks(self, scripted, text, own, advice):
        scripted(text)
        with pytest.raises(AssertionFailed) as caught:
            ask(program(checks=own, max_backtracks=0))
        assert advice in str(caught.value)

    def test_stricter_built_in_check(self, scripted):
        scripted(completion(draft="fantasy"))
        with pytest.raises(AssertionFailed, match="'approved' still fails"):
            ask(program(checks=[Assert(checks.approved)]))

    def test_another_function_under_the_name(self, scripted):
        scripted(completion(evidence='[{"item": "1", "quote": "A LIGHTHOUSE"}]'))
        loose = Assert(lambda inputs, outcome: True, name="quoted")
        assert ask(program(checks=[loose])).violations == []

    def test_other_template_stages(self):
        with pytest.raises(ConfigError, match="check 'quoted' is to run after 'proof'"):
            R2P(Film, retriever=All(), checks=[Suggest(checks.quoted, after="proof")])
