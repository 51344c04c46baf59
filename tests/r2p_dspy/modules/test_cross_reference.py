"""Cross-referencing: which of several outcomes is answered with, and what is told about it."""

import asyncio

import dspy
import pytest
from dspy.utils.exceptions import LMUnexpectedError
from hypothesis import given
from hypothesis import strategies as st

from r2p_dspy import (
    Assert,
    AssertionFailed,
    Candidate,
    CheckError,
    CrossReference,
    Suggest,
    load_program,
    optimizing,
    save_program,
)
from r2p_dspy.modules.voting import choose, due
from tests.film import FILM, HISTORY, ask, program
from tests.scripted import completion, written

ROMANCE = completion()
FANTASY = completion(
    evidence='[{"item": "2", "quote": "a wizard"}]',
    preferences='[{"statement": "wizards", "items": ["2"], "label": "fantasy"}]',
    draft="fantasy",
    tag="fantasy",
)
FORGED = completion(evidence='[{"item": "1", "quote": "a dragon"}]', draft="horror", tag="horror")
GARBLED = "no field at all"


@pytest.mark.parametrize(
    "answers",
    [
        ("猫在窗边", "雨下了一天", "雨下了一整天"),
        ("кошка спит", "дождь весь день", "дождь идёт весь день"),
        ("강아지가 잔다", "비가 온다", "비는 온다"),
    ],
)
def test_the_medoid_reads_any_script(answers):
    assert choose(candidates_with(*answers), "tag", "medoid") in (1, 2)


def candidates_with(*answers, **changes):
    return [Candidate(answer={"tag": answer}, **changes) for answer in answers]


def compared(tag, comparison="they agree"):
    return written(comparison=comparison, tag=tag)


class TestChoose:
    @pytest.mark.parametrize(
        ("way", "answers", "winner"),
        [
            ("vote", ["a", "b", "b"], "b"),
            ("vote", ["a", "b"], "a"),
            ("vote", ["Comedy ", "drama", "comedy"], "Comedy "),
            ("median", ["1", "5", "4"], "4"),
            ("median", ["1", "5"], "1"),
            ("auto", ["1", "2", "2", "5", "5"], "2"),
            ("auto", [1, 5, 3], 3),
            ("auto", ["a", "b", "b"], "b"),
            ("auto", ["rain again", "the rain is here again", "the rain is here"], "the rain is here again"),
            ("medoid", ["the old sea", "the sea", "a mountain"], "the old sea"),
        ],
    )
    def test_ways_to_reconcile(self, way, answers, winner):
        candidates = candidates_with(*answers)
        assert candidates[choose(candidates, "tag", way)].answer["tag"] == winner

    def test_failed_candidates_have_no_vote(self):
        candidates = [*candidates_with("a", "a", survives=False), *candidates_with("b")]
        assert choose(candidates, "tag") == 2
        assert [candidate.support for candidate in candidates] == [0, 0, 1]

    def test_evidence_beats_no_evidence(self):
        evidence = {"evidence": [{"item": "1", "quote": "a lighthouse"}]}
        candidates = [*candidates_with("a", "a"), *candidates_with("b", stages=evidence)]
        assert choose(candidates, "tag", "vote") == 2
        assert [candidate.supported for candidate in candidates] == [False, False, True]

    def test_no_survivor_gives_none(self):
        assert choose(candidates_with("a", "b", survives=False), "tag") is None

    @given(st.lists(st.sampled_from("abc"), min_size=1, max_size=7), st.randoms())
    def test_vote_ignores_order(self, answers, random):
        first, shuffled = candidates_with(*answers), candidates_with(*random.sample(answers, len(answers)))
        supports = [group[choose(group, "tag", "vote")].support for group in (first, shuffled)]
        assert supports[0] == supports[1] == max(map(answers.count, answers))


class TestDue:
    @pytest.mark.parametrize(
        ("answers", "n", "confidence", "more"),
        [
            ("", 5, None, 5),
            ("", 5, 1.0, 3),
            ("aaa", 5, 1.0, 0),
            ("aab", 5, 1.0, 1),
            ("", 5, 0.95, 2),
            ("aa", 5, 0.95, 0),
            ("ab", 5, 0.95, 2),
            ("abcde", 5, 0.95, 0),
            ("", 1, 0.95, 1),
        ],
    )
    def test_samples_still_due(self, answers, n, confidence, more):
        assert due(candidates_with(*answers), "tag", n, confidence) == more

    @given(st.text("ab", min_size=7, max_size=7))
    def test_full_confidence_equals_full_sampling(self, answers):
        seen = ""
        while count := due(candidates_with(*seen), "tag", 7, 1.0):
            seen = answers[: len(seen) + count]
        assert max("ab", key=seen.count) == max("ab", key=answers.count)


class TestPrediction:
    def test_holds_candidates_and_decision(self, scripted):
        scripted(FANTASY, ROMANCE, ROMANCE)
        answer = ask(program(candidates=3))
        assert answer.tag == "romance"
        assert sorted(candidate.answer["tag"] for candidate in answer.candidates) == ["fantasy", "romance", "romance"]
        assert [candidate.support for candidate in answer.candidates if candidate.chosen] == [2]
        assert answer.decision == "2 of 3 candidates that hold answer so"
        assert [item.id for item in answer.reasoning.cited] == ["m7"]
        assert sorted(candidate.cited for candidate in answer.candidates) == [["m7"], ["m7"], ["m9"]]

    def test_single_candidate_has_no_candidates(self, scripted):
        scripted(ROMANCE)
        assert ask(program()).candidates == []

    def test_forged_evidence_loses(self, scripted):
        scripted(FORGED, FORGED, FANTASY)
        assert ask(program(candidates=3, max_backtracks=0)).tag == "fantasy"

    def test_adaptive_stops_when_two_agree(self, scripted):
        engine = scripted(ROMANCE)
        answer = ask(program(candidates=5, adaptive=True))
        assert (answer.tag, len(answer.candidates), len(engine.requests)) == ("romance", 2, 2)

    def test_adaptive_continues_on_disagreement(self, scripted):
        engine = scripted(ROMANCE, FANTASY, FANTASY, FANTASY)
        assert ask(program(candidates=5, adaptive=True)).tag == "fantasy"
        assert len(engine.requests) == 4

    def test_async(self, scripted):
        scripted(FANTASY, ROMANCE, ROMANCE)
        answer = asyncio.run(program(candidates=3).acall(film=FILM, profile=HISTORY))
        assert answer.tag == "romance"
        assert len(answer.candidates) == 3

    def test_each_candidate_has_its_rollout_id(self, scripted):
        engine = scripted(ROMANCE)
        with dspy.context(lm=dspy.settings.lm.copy(cache=True)):
            ask(program(candidates=3), film="a film that no cache knows")
        assert len(engine.requests) == 3
        assert {request.config.temperature for request in engine.requests} == {1.0}

    @pytest.mark.parametrize(
        ("config", "temperature"), [({"rollout_id": 7}, 1.0), ({"rollout_id": 7, "temperature": 0.5}, 0.5)]
    )
    def test_a_calls_own_config_leaves_candidates_apart(self, scripted, config, temperature):
        engine = scripted(ROMANCE)
        with dspy.context(lm=dspy.settings.lm.copy(cache=True)):
            ask(program(candidates=3), film=f"another film {temperature}", config=config)
        assert len(engine.requests) == 3
        assert {request.config.temperature for request in engine.requests} == {temperature}


class TestSynthesis:
    def program(self, **options):
        return program(candidates=2, reconcile="synthesis", max_backtracks=0, **options)

    def test_model_reads_candidates_and_decides(self, scripted):
        engine = scripted(ROMANCE, FANTASY, compared("fantasy"))
        answer = ask(self.program())
        assert answer.tag == "fantasy"
        assert answer.decision == "the model decided for it after reading 2 candidates"
        prompt = engine.prompts()[-1]
        assert '"quote": "a lighthouse"' in prompt and '"quote": "a wizard"' in prompt
        assert '{"item": "1"' in prompt  # the history, under the ids that the evidence cites

    def test_new_answer_becomes_a_candidate(self, scripted):
        scripted(ROMANCE, FANTASY, compared("romance at sea"))
        answer = ask(self.program())
        assert (answer.tag, answer.reasoning.draft) == ("romance at sea", "romance at sea")
        assert answer.decision == "the model wrote it after reading 2 candidates"
        assert answer.reasoning.evidence[0].quote == "a lighthouse"

    @pytest.mark.parametrize(
        ("text", "decision"),
        [
            ("babble", "the comparison cannot be read"),
            (compared("far too long"), "the model's own answer does not hold"),
        ],
    )
    def test_unusable_synthesis_falls_back_to_vote(self, scripted, text, decision):
        brief = Assert(lambda inputs, outcome: (len(outcome.tag) < 10, "Shorten it."), name="brief")
        scripted(ROMANCE, ROMANCE, text)
        answer = ask(self.program(checks=[brief]))
        assert answer.tag == "romance"
        assert answer.decision.startswith(decision)

    def test_predictor_exists_only_when_used(self):
        assert [name for name, _ in self.program().named_predictors()] == ["reason", "synthesize"]
        assert [name for name, _ in program(candidates=3).named_predictors()] == ["reason"]


class TestTrace:
    def test_holds_only_the_winner(self, scripted):
        scripted(FANTASY, ROMANCE, ROMANCE)
        module = program(candidates=3)
        with dspy.context(trace=[]):
            ask(module)
            trace = dspy.settings.trace
        [(predictor, _, prediction)] = trace
        assert predictor is module.reason
        assert prediction.tag == "romance"

    def test_holds_the_synthesis(self, scripted):
        scripted(ROMANCE, ROMANCE, compared("romance"))
        module = program(candidates=2, reconcile="synthesis")
        with dspy.context(trace=[]):
            ask(module)
            assert [predictor for predictor, *_ in dspy.settings.trace] == [module.reason, module.synthesize]


class TestFailures:
    def test_unreadable_candidate_has_no_vote(self, scripted):
        scripted(GARBLED, GARBLED, FANTASY)
        answer = ask(program(candidates=3, max_backtracks=0))
        assert answer.tag == "fantasy"
        assert sum(candidate.error is not None for candidate in answer.candidates) == 2

    def test_raises_with_the_best_candidate(self, scripted):
        scripted(GARBLED, FORGED)
        with pytest.raises(AssertionFailed) as raised:
            ask(program(candidates=2, max_backtracks=0))
        assert raised.value.prediction.tag == "horror"
        assert raised.value.prediction.decision == "no candidate holds"

    def test_optimizing_returns_the_best_candidate(self, scripted):
        scripted(FORGED)
        with optimizing():
            assert ask(program(candidates=2, max_backtracks=0)).violations

    def test_engine_error_costs_one_candidate(self, scripted):
        scripted(RuntimeError("gone"), ROMANCE, ROMANCE)
        answer = ask(program(candidates=3))
        assert answer.tag == "romance"
        assert any("gone" in (candidate.error or "") for candidate in answer.candidates)

    @pytest.mark.parametrize("call", [ask, lambda module: asyncio.run(module.acall(film=FILM, profile=HISTORY))])
    @pytest.mark.parametrize("force", [Assert, Suggest])
    def test_check_that_fails_is_no_failed_candidate(self, scripted, force, call):
        def faulty(inputs, outcome):
            return {"romance": True}[outcome.tag]

        scripted(*[completion(tag=tag, draft=tag) for tag in ("romance", "fantasy", "romance")])
        with pytest.raises(CheckError, match="check 'faulty' failed with KeyError: 'fantasy'") as caught:
            call(program(candidates=3, checks=[force(faulty)]))
        assert isinstance(caught.value.__cause__, KeyError)

    def test_engine_error_in_all_candidates_raises(self, scripted):
        scripted(RuntimeError("gone"))
        with pytest.raises(LMUnexpectedError, match="gone"):
            ask(program(candidates=3))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"candidates": 0}, "candidates must be at least 1"),
            ({"candidates": 3, "reconcile": "dice"}, "unknown way to reconcile 'dice'"),
            ({"candidates": 1, "reconcile": "synthesis"}, "reads several candidates"),
            ({"candidates": 3, "adaptive": 1.5}, "adaptive is True, False or a probability"),
        ],
    )
    def test_invalid_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            program(**options)


def test_around_any_module(scripted):
    scripted(*[written(reasoning="hm", tag=tag) for tag in ("sad", "glad", "sad")])
    answer = CrossReference(dspy.ChainOfThought("film -> tag"), "tag", n=3)(film="x")
    assert answer.tag == "sad"
    assert [candidate.support for candidate in answer.candidates if candidate.chosen] == [2]


@pytest.mark.parametrize("way", ["file", "state"])
@pytest.mark.parametrize("options", [{"candidates": 3}, {"candidates": 3, "reconcile": "synthesis"}])
def test_state_fits_any_wrapping(tmp_path, options, way):
    for saved, loaded in ((program(), program(**options)), (program(**options), program())):
        saved.reason.signature = saved.reason.signature.with_instructions("Think twice.")
        if way == "file":
            load_program(loaded, save_program(saved, tmp_path / "program.json"))
        else:
            loaded.load_state(saved.dump_state())
        assert loaded.reason.signature.instructions == "Think twice."
