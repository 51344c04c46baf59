"""The composite score and its metric adapters: what counts, what the gate lets through, and the feedback."""

import copy
import json
import pickle

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import r2p_dspy
from r2p_dspy import (
    BUILT_IN,
    R2P,
    Attempt,
    Composite,
    Details,
    R2PPrediction,
    Verdict,
    optimizing,
)
from r2p_dspy.decoding.monitor import Intervention
from r2p_dspy.prediction import Candidate
from r2p_dspy.scoring.composite import PARTS, WEIGHTS, Score
from r2p_dspy.scoring.feedback import GOOD
from tests.film import HISTORY, Film, ask, program
from tests.scripted import completion

QUICK = settings(max_examples=100)
NAMES = [check.name for check in BUILT_IN]
KINDS = {check.name: check.kind for check in BUILT_IN} | {"mine": "assert", "hint": "suggest"}
ROW = dspy.Example(film="x", tag="comedy").with_inputs("film")


def attempt(*failed, accepted=False, names=NAMES):
    """An attempt at which these checks failed."""
    names = [*names, *(name for name in failed if name not in names)]
    verdicts = [
        Verdict(check=name, kind=KINDS[name], ok=name not in failed, message=f"Mend {name}." if name in failed else "")
        for name in names
    ]
    return Attempt(verdicts=verdicts, accepted=accepted)


def corrected(*failed):
    """An attempt as it would have been without the interventions."""
    intervened = attempt(*failed)
    intervened.interventions = [Intervention(stage="evidence", check=name, message="") for name in failed]
    return intervened


def predicted(*attempts, tag="comedy"):
    return dspy.Prediction(tag=tag, attempts=list(attempts))


def exact(row, answer):
    return float(row.tag == answer.tag)


TASKS = st.floats(0, 1)
ATTEMPTS = st.lists(st.sets(st.sampled_from([*NAMES, "mine", "hint"])), min_size=1, max_size=3)


def of(failures):
    """A prediction of attempts with these failures, of which the last one was accepted."""
    last = len(failures) - 1
    return predicted(*(attempt(*failed, accepted=n == last) for n, failed in enumerate(failures)))


@QUICK
@given(TASKS, ATTEMPTS, st.fixed_dictionaries({}, optional=dict.fromkeys(WEIGHTS, st.floats(0, 1))))
def test_score_bounds_and_gate(task, failures, weights):
    if sum(weights.values()) <= 0:
        weights = WEIGHTS
    score = Composite(lambda row, answer: task, weights=weights)(ROW, of(failures))
    assert 0 <= score <= 1
    assert all(0 <= part <= 1 for part in score.parts.values())
    assert set(score.parts) == set(WEIGHTS)
    if any(KINDS[name] == "assert" for name in failures[-1]):
        assert score == 0


@QUICK
@given(
    st.floats(0.01, 1),
    st.lists(st.tuples(TASKS, ATTEMPTS), min_size=2, max_size=4),
    st.fixed_dictionaries({}, optional=dict.fromkeys(WEIGHTS, st.floats(0, 1))),
    st.sampled_from([None, "reason", "tagger.reason", "synthesize", "explain"]),
)
def test_adapters_agree(threshold, answers, weights, predictor):
    if sum(weights.values()) <= 0:
        weights = WEIGHTS
    orders = []
    for task, failures in answers:
        score = Composite(lambda row, answer: task, threshold=threshold, weights=weights)  # noqa: B023
        prediction = of(failures)
        value = float(score(ROW, prediction))
        values = {
            "metric": score.metric(ROW, prediction),
            "metric, with a trace": score.metric(ROW, prediction, []),
            "itself, with a trace": float(score(ROW, prediction, trace=[])),
            "optimizer": score.optimizer_metric(ROW, prediction),
            "gepa": score.gepa_metric(ROW, prediction).score,
            "gepa, of a predictor": score.gepa_metric(ROW, prediction, None, predictor, []).score,
            "reward": score.reward(ROW, prediction)["reward"],
        }
        assert values == dict.fromkeys(values, value)
        kept = score.accepts(ROW, prediction)
        assert kept is score.optimizer_metric(ROW, prediction, []) is bool(score(ROW, prediction))
        assert kept == (value > 0 and task >= threshold)
        parts = score.reward(ROW, prediction)
        assert {name: parts[name] for name in WEIGHTS} == score(ROW, prediction).parts
        orders.append((value, *values.values()))
    for adapter in zip(*orders, strict=True):
        assert sorted(range(len(answers)), key=adapter.__getitem__) == sorted(
            range(len(answers)), key=lambda n: orders[n][0]
        ), "one order everywhere"


@QUICK
@given(st.lists(st.sets(st.sampled_from([*NAMES, "mine", "hint"])), min_size=1, max_size=3))
def test_gepa_feedback_names_every_first_failure(failures):
    feedback = Composite(exact).gepa_metric(ROW, of(failures)).feedback
    for name in failures[0]:
        stage = {"quoted": "evidence", "cited": "evidence", "backed": "preferences", "labelled": "preferences"}.get(
            name
        )
        if name == "approved":
            stage = "verification"
        assert (f"Stage {stage}" if stage else "The answer") + f" fails [{name}]: Mend {name}." in feedback
        assert GOOD.get(name, "") in feedback
    assert (feedback == "Right, and every check holds.") == (not failures[0] and not failures[-1])
    assert len(feedback.splitlines()) == 1


@QUICK
@given(TASKS, ATTEMPTS)
def test_corrected_failures_lower_the_score(task, failures):
    clean = Composite(lambda row, answer: task)(ROW, of([set()]))
    mended = Composite(lambda row, answer: task)(ROW, of([*failures, set()]))
    assert mended <= clean
    if failures[0] & {name for names in PARTS.values() for name in names}:
        assert mended < clean
    else:
        assert mended == clean


@pytest.mark.parametrize(
    ("why", "prediction", "value", "passes"),
    [
        ("right, and all checks hold", predicted(attempt(accepted=True)), 1.0, True),
        ("wrong, and all checks hold", predicted(attempt(accepted=True), tag="drama"), 0.3, False),
        ("right, with an unmet assert", predicted(attempt("quoted", accepted=True)), 0.0, False),
        ("right, with an unmet assert of one's own", predicted(attempt("mine", accepted=True)), 0.0, False),
        ("right, with an unmet suggest", predicted(attempt("approved", accepted=True)), 0.95, True),
        ("a suggest of one's own is no part", predicted(attempt("hint", accepted=True)), 1.0, True),
        ("unreadable", predicted(attempt(*NAMES, accepted=True), tag=None), 0.0, False),
        ("mended", predicted(attempt("quoted"), attempt(accepted=True)), 1 - 0.15 / 4, True),
        ("mended from nothing", predicted(attempt(*NAMES), attempt(accepted=True)), 0.7, True),
        (
            "the second of three accepted",
            predicted(attempt("mine"), attempt(accepted=True), attempt("mine")),
            1.0,
            True,
        ),
        ("a plain prediction, right", dspy.Prediction(tag="comedy"), 1.0, True),
        ("a plain prediction, wrong", dspy.Prediction(tag="drama"), 0.0, False),
        ("checks around a plain module", predicted(attempt(names=["parsed"], accepted=True)), 1.0, True),
        ("unreadable from a plain module", predicted(attempt("parsed", names=["parsed"], accepted=True)), 0.0, False),
        ("no attempt", predicted(), 1.0, True),
        ("an output that is called attempts", dspy.Prediction(tag="comedy", attempts="two"), 1.0, True),
    ],
)
def test_score_of_a_prediction(why, prediction, value, passes):
    composite = Composite(exact)
    assert composite(ROW, prediction) == pytest.approx(value)
    assert composite.accepts(ROW, prediction) == passes


def test_score_survives_pickle_and_copy():
    score = Composite(exact)(ROW, predicted(attempt("quoted"), attempt(accepted=True)))
    for twin in (pickle.loads(pickle.dumps(score)), copy.copy(score), copy.deepcopy(score)):
        assert isinstance(twin, Score)
        assert (twin, twin.parts, twin.feedback, bool(twin)) == (score, score.parts, score.feedback, True)
    assert json.loads(json.dumps({"score": score})) == {"score": float(score)}


@pytest.mark.parametrize(
    ("why", "score", "accepted"),
    [
        ("above 0, unless said otherwise", Score(0.1), True),
        ("0", Score(0), False),
        ("below the threshold", Score(0.3, accepted=False), False),
    ],
)
def test_score_truth_is_acceptance(why, score, accepted):
    assert bool(score) is accepted, why


def test_composite_in_evaluate():
    class Tagger(dspy.Module):
        def forward(self, film):
            return dspy.Prediction(tag=film)

    rows = [dspy.Example(film=film, tag="comedy").with_inputs("film") for film in ("comedy", "drama", "comedy", "")]
    evaluate = dspy.Evaluate(devset=rows, display_progress=False)
    result = evaluate(Tagger(), metric=Composite(exact))
    assert result.score == evaluate(Tagger(), metric=Composite(exact).metric).score == 50.0
    assert [score.parts for *_, score in result.results] == [{"task": 1.0}, {"task": 0.0}, {"task": 1.0}, {"task": 0.0}]


def test_score_in_evaluates_files_and_table(tmp_path, capsys):
    class Tagger(dspy.Module):
        def forward(self, film):
            return dspy.Prediction(tag=film)

    rows = [dspy.Example(film=film, tag="comedy").with_inputs("film") for film in ("comedy", "drama")]
    files = {kind: str(tmp_path / f"rows.{kind}") for kind in ("json", "csv")}
    evaluate = dspy.Evaluate(
        devset=rows, metric=Composite(exact), display_table=2, save_as_json=files["json"], save_as_csv=files["csv"]
    )
    assert evaluate(Tagger()).score == 50.0
    assert [row["Composite"] for row in json.loads((tmp_path / "rows.json").read_text())] == [1.0, 0.0]
    assert (tmp_path / "rows.csv").read_text().splitlines()[0] == "film,example_tag,pred_tag,Composite"
    assert "Composite" in capsys.readouterr().out


def test_composite_can_be_copied():
    assert copy.deepcopy(Composite(exact).gepa_metric)(ROW, dspy.Prediction(tag="comedy")).score == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("as_float", "metric"),
        ("as_bool", "accepts"),
        ("as_optimizer_metric", "optimizer_metric"),
        ("as_gepa", "gepa_metric"),
        ("as_reward", "reward"),
    ],
)
def test_former_adapters_warn(old, new):
    score = Composite(exact)
    with pytest.warns(DeprecationWarning, match=f"use score.{new}$"):
        adapter = getattr(r2p_dspy, old)(score)
    assert adapter == getattr(score, new)


def test_former_attributes_warn():
    with pytest.warns(DeprecationWarning, match="a Score is a float"):
        assert Score(0.5).value == 0.5
    with pytest.warns(DeprecationWarning, match=r"use Composite\.accepts"):
        assert Composite(exact).passes(ROW, dspy.Prediction(tag="comedy")) is True


def test_plain_prediction_has_only_the_task_score():
    score = Composite(lambda row, answer: 0.25)(ROW, dspy.Prediction(tag="x"))
    assert (score, score.parts) == (0.25, {"task": 0.25})


def test_custom_weights_and_threshold():
    evidence = Composite(exact, weights={"evidence": 1.0})
    assert evidence(ROW, predicted(attempt("quoted"), attempt(accepted=True), tag="drama")) == 0.75
    assert evidence(ROW, dspy.Prediction(tag="comedy")) == 1.0, "where only the task can be scored, it is"
    half = Composite(lambda row, answer: 0.5, threshold=0.5)
    assert half.accepts(ROW, predicted(attempt(accepted=True)))
    assert not Composite(lambda row, answer: 0.49, threshold=0.5).accepts(ROW, predicted(attempt(accepted=True)))


@pytest.mark.parametrize(
    ("why", "weights", "named"),
    [
        (
            "an unknown part",
            {"task": 1.0, "style": 1.0},
            "unknown part 'style' in the weights; the parts are task, struc",
        ),
        ("a negative weight", {"task": 1.0, "structure": -0.1}, "at least 0, and not all 0"),
        ("what is no number", {"task": float("nan")}, "must be numbers"),
        ("one without end", {"task": float("inf")}, "must be numbers"),
        ("all zero", {"task": 0.0}, "not all 0"),
        ("none", {}, "not all 0"),
    ],
)
def test_invalid_weights(why, weights, named):
    with pytest.raises(ValueError, match=named):
        Composite(exact, weights=weights)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_out_of_bounds(threshold):
    with pytest.raises(ValueError, match=r"threshold of the task's score must be in \[0, 1\]"):
        Composite(exact, threshold=threshold)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), 100])
def test_task_score_out_of_bounds(value):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], higher is better"):
        Composite(lambda row, answer: value)(ROW, predicted(attempt(accepted=True)))


@pytest.mark.parametrize(
    ("why", "row", "prediction", "expected"),
    [
        ("all is well", ROW, predicted(attempt(accepted=True)), "Right, and every check holds."),
        ("a wrong answer", ROW, dspy.Prediction(tag="drama"), "The tag was 'drama'; right is 'comedy'."),
        ("no answer", ROW, dspy.Prediction(tag=None), "The tag was None; right is 'comedy'."),
        ("an answer that is not there", ROW, dspy.Prediction(tag="drama").without("tag"), "The answer is wrong."),
        (
            "inputs that were not named",
            dspy.Example(tag="comedy"),
            dspy.Prediction(tag="x"),
            "The tag was 'x'; right is",
        ),
        (
            "one of two answers",
            dspy.Example(tag="comedy", year=1),
            dspy.Prediction(tag="x", year=1),
            "The tag was 'x'; right is 'comedy'.",
        ),
        (
            "an unmet check",
            ROW,
            predicted(attempt("quoted", accepted=True)),
            f"Stage evidence fails [quoted]: Mend quoted. {GOOD['quoted']}",
        ),
        (
            "one of the user's own",
            ROW,
            predicted(attempt("mine", accepted=True)),
            "The answer fails [mine]: Mend mine.",
        ),
        (
            "two",
            ROW,
            predicted(attempt("quoted", "backed", accepted=True)),
            f"{GOOD['quoted']} Stage preferences fails [backed]: Mend backed.",
        ),
        (
            "a mended one",
            ROW,
            predicted(attempt("cited"), attempt(accepted=True)),
            f"Mend cited. {GOOD['cited']} Backtracking mended it; a good answer needs none.",
        ),
        (
            "one that an intervention mended",
            ROW,
            predicted(corrected("cited"), attempt(accepted=True)),
            f"Mend cited. {GOOD['cited']} An intervention while it reasoned mended it; a good answer needs none.",
        ),
        (
            "a retry that fails elsewhere",
            ROW,
            predicted(attempt("cited"), attempt("backed", accepted=True)),
            f"{GOOD['cited']} Retried: Stage preferences fails [backed]: Mend backed.",
        ),
        (
            "a wrong answer too",
            ROW,
            predicted(attempt("cited", accepted=True), tag="x"),
            "right is 'comedy'. Stage evidence fails [cited]: Mend cited.",
        ),
    ],
)
def test_gepa_feedback(why, row, prediction, expected):
    def lenient(row, answer):
        return float(row.tag == answer.get("tag"))

    result = Composite(lenient).gepa_metric(row, prediction)
    assert expected in result.feedback
    assert len(result.feedback.splitlines()) == 1
    if "one of two" in why:
        assert "year" not in result.feedback


@pytest.mark.parametrize(
    ("why", "changes", "expected"),
    [
        (
            "the items with the right answer are not cited",
            {},
            "Stage evidence cites none of the items that bear the right answer (2). Good evidence cites the items that",
        ),
        (
            "they are cited, and not followed",
            {
                "evidence": '[{"item": "2", "quote": "a wizard"}]',
                "preferences": '[{"statement": "s", "items": ["2"], "label": "fantasy"}]',
            },
            "Stage evidence cites an item with the right answer, and the stages after it leave it. Good preferences",
        ),
        (
            "the draft had it",
            {"draft": "fantasy"},
            "Stage draft had it right. A good tag is the draft that was approved.",
        ),
    ],
)
def test_feedback_names_the_wrong_stage(why, changes, expected, scripted):
    scripted(completion(**changes))
    with optimizing():
        answer = ask(program(max_backtracks=0))
    result = Composite(exact).gepa_metric(dspy.Example(film="x", tag="fantasy").with_inputs("film"), answer)
    assert result.feedback.startswith("The tag was 'romance'; right is 'fantasy'. ") and expected in result.feedback, (
        why
    )


def candidate(tag, survives=True):
    return Candidate(answer={"tag": tag}, survives=survives)


@pytest.mark.parametrize(
    ("why", "tag", "candidates", "expected"),
    [
        ("a candidate had it", "drama", [candidate("drama"), candidate("comedy")], "Candidate 2 had it right. A good"),
        ("none had it", "drama", [candidate("drama"), candidate("drama")], "No candidate had it. A good comparison"),
        ("it had no say", "drama", [candidate("drama"), candidate("comedy", False)], "No candidate had it."),
        ("it chose right", "comedy", [candidate("drama"), candidate("comedy")], "Right, and every check holds."),
    ],
)
def test_synthesize_gets_feedback_on_comparison(why, tag, candidates, expected):
    answer = predicted(attempt("quoted"), attempt(accepted=True), tag=tag)
    answer.candidates = candidates
    metric = Composite(exact).gepa_metric
    feedback = {
        name: metric(ROW, answer, None, name, []).feedback for name in ("synthesize", "tagger.synthesize", "reason")
    }
    assert feedback["synthesize"] == feedback["tagger.synthesize"]
    assert expected in feedback["synthesize"] and "quoted" not in feedback["synthesize"], why
    assert "[quoted]" in feedback["reason"] and "Candidate" not in feedback["reason"], why


def test_nested_program_attempts_come_from_trace():
    details = Details(attempts=[attempt("quoted"), attempt(accepted=True)])
    step = R2PPrediction({"tag": "comedy"}, details=details)
    result = Composite(exact).gepa_metric(ROW, dspy.Prediction(tag="comedy"), [], "tagger.reason", [(None, {}, step)])
    assert "[quoted]" in result.feedback and "Backtracking mended it" in result.feedback and result.score == 1


def test_real_program_corrected_failures_count(scripted):
    scripted(completion(evidence='[{"item": "9", "quote": "a whale"}]'), completion())
    row = dspy.Example(film="x", tag="romance").with_inputs("film")
    score = Composite(exact)(row, ask(program()))
    assert score.parts == {"task": 1.0, "structure": 1.0, "evidence": 0.5, "consistency": 1.0}
    assert score == pytest.approx(0.7 + 0.1 + 0.15 / 2 + 0.05)
    assert score.feedback.startswith("Stage evidence fails [cited]: There is no item 9; cite only 1, 2. Good evidence")


def test_real_program_unmet_assert_scores_zero(scripted):
    scripted(completion(evidence='[{"item": "9", "quote": "a whale"}]'))
    row = dspy.Example(film="x", tag="romance").with_inputs("film")
    with optimizing():
        answer = ask(program())
    assert answer.tag == row.tag
    assert Composite(exact)(row, answer) == 0
    assert Composite(exact).optimizer_metric(row, answer, []) is False


def test_output_named_attempts(scripted):
    signature = Film.delete("tag").append("attempts", dspy.OutputField(), str)
    scripted(completion(tag=None, attempts="romance", evidence='[{"item": "9", "quote": "a"}]'))
    with optimizing():
        answer = R2P(signature)(film="x", profile=HISTORY)
    assert answer.attempts == "romance"
    assert Composite(lambda row, answer: 1.0)(ROW, answer) == 0
