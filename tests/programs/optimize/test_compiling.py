"""Compiling: what each optimizer changes, that what it collects is clean, what wins, and what is refused."""

import json
import pickle
from threading import Thread

import dspy
import numpy as np
import pytest
from dspy.clients.provider import TrainingJob

from programs.optimize import instructions as instruction_search
from programs.optimize.compiling import compile_program, composite, copy_learned_state, parse_weights
from programs.optimize.context import CompileContext, find_passing
from programs.optimize.optimizers import OPTIMIZERS, find_optimizer
from programs.optimize.safe_metric import MetricError
from programs.tasks.program import r2p
from programs.tasks.retrievers import default_retriever
from r2p_dspy import R2P, Assert, Dense, load_program, optimizing, save_program
from r2p_dspy.profile import Profile
from tests.programs.optimize.proposer import (
    EXAMPLES,
    HELPS,
    TASK,
    answer,
    asked_example,
    knowing,
    model,
    propose,
    taught_by,
)

TRAIN, DEV = EXAMPLES[:12], EXAMPLES[20:26]
KNOWN = EXAMPLES[:6]


def compiled(optimizer, say, *, program=None, train=TRAIN, dev=DEV, reflect=True, **options):
    """The program, the summary, the model and the reflection model of a compilation."""
    lm, reflection = model(say), model(propose, "test/strong") if reflect else None
    options = {"threads": 4, "reflection": reflection, **options}
    with dspy.context(lm=lm):
        winner, summary = compile_program(program or r2p(TASK), TASK, train, dev, optimizer=optimizer, **options)
    return winner, summary, lm.engine, reflection and reflection.engine


def sampled(request):
    """A model that is right about half of what it samples, and under an instruction that helps always."""
    sampling = request.config.temperature == 1
    case, _ = asked_example(request)
    known = case.id in {example.id for example in KNOWN}
    helped = HELPS in (request.system or "") or len(request.messages) > 1
    flips[case.id] = flips.get(case.id, 0) + sampling
    return answer(request, helped or (flips[case.id] % 2 == 1 if sampling else known))


flips: dict[str, int] = {}


def check_clean(program, known):
    """Each demo is a whole run about an example that it got right, the items as retrieved, with nothing beside."""
    golds = {example[TASK.question]: example for example in known}
    for demo in program.reason.demos:
        assert {*demo.keys()} == {*program.reason.signature.fields, "augmented"}
        source = golds[demo[TASK.question]]
        assert demo[TASK.answer] == source[TASK.answer]
        assert all(demo[stage] is not None for stage in program.reason.stages.values())
        items = Profile.of(demo["profile"])
        assert [item.id for item in items] == [str(n) for n in range(1, len(items) + 1)] and len(items) <= 4
        assert {item.ref for item in items} <= {item.id for item in source["profile"]}
        assert "hint_" not in str(demo) and "feedback" not in str(demo) and "not accepted" not in str(demo)
    assert len(program.reason.usable_demos(program.reason.demos)) == len(program.reason.demos)
    assert len({demo[TASK.question] for demo in program.reason.demos}) == len(program.reason.demos)


def check_bare(program, tmp_path):
    """Nothing of the optimizer stays on the program, and its file fits a new one."""
    fresh = r2p(TASK)
    assert program.__dict__.keys() == fresh.__dict__.keys()
    assert program.forward.__func__ is type(program).forward
    prefixes = [[info.json_schema_extra["prefix"] for info in predictor.signature.fields.values()] for predictor in
                (program.reason, fresh.reason)]  # fmt: skip
    assert prefixes[0] == prefixes[1]
    load_program(fresh, save_program(program, tmp_path / "program.json", task=TASK.name), task=TASK.name)
    assert fresh.reason.signature.instructions == program.reason.signature.instructions
    assert len(fresh.reason.demos) == len(program.reason.demos)


@pytest.mark.parametrize(
    ("optimizer", "say", "demos", "instructions"),
    [
        ("bootstrap", taught_by(KNOWN), True, False),
        ("random", taught_by(KNOWN), True, False),
        ("knn", taught_by(KNOWN), True, False),
        ("mipro", taught_by(KNOWN, demos=False), None, True),
        ("gepa", taught_by(KNOWN), False, True),
        ("simba", sampled, None, None),
        ("copro", taught_by(KNOWN), False, True),
    ],
)
def test_optimizer_leaves_a_clean_program(optimizer, say, demos, instructions, tmp_path):
    flips.clear()
    program = r2p(TASK)
    before = program.reason.signature.instructions
    train = TRAIN[:8] if optimizer == "simba" else TRAIN
    winner, summary, engine, reflection = compiled(optimizer, say, program=program, train=train)
    assert summary["winner"] == "compiled", summary
    assert summary["dev_scores"]["uncompiled"] < max(summary["dev_scores"].values()) == 100
    changed = winner.reason.signature.instructions != before
    assert winner.reason.demos or changed
    for expected, changes in ((demos, bool(winner.reason.demos)), (instructions, changed)):
        assert expected is None or changes == expected
    assert summary["demos"] == len(winner.reason.demos) <= 4
    assert summary["instructions"] == (["reason"] if changed else [])
    assert not changed or HELPS in winner.reason.signature.instructions
    assert reflection.requests or not changed
    check_clean(winner, TRAIN)
    check_bare(winner, tmp_path)
    assert program.reason.demos == [] and program.reason.signature.instructions == before, "it is not changed"
    assert max(map(len, engine.prompts())) < 20_000, "no prompt is full of raw rows"
    assert "Not supplied" not in "".join(engine.prompts())


def stumbling(request):
    """A model whose first attempts cite what is not there, some of whose candidates and comparisons are wrong."""
    case, _ = asked_example(request)
    if "`comparison`" in request.system:
        right = flips[case.id] % 12 != 0  # a run of two candidates, each tried twice, is four calls
        tag = case[TASK.answer] if right else next(label for label in TASK.labels if label != case[TASK.answer])
        return f"[[ ## comparison ## ]]\nthe first is right\n\n[[ ## tag ## ]]\n{tag}"
    flips[case.id] = flips.get(case.id, 0) + 1
    if "not accepted" not in request.messages[-1].text:
        return answer(request, True).replace('"item": "1"', '"item": "9"')
    return answer(request, flips[case.id] % 4 or HELPS in request.system)


@pytest.mark.parametrize("optimizer", ["bootstrap", "random", "knn", "mipro", "simba"])
def test_demos_show_only_accepted_attempts_and_winners(optimizer, monkeypatch):
    monkeypatch.setattr(instruction_search, "CANDIDATES", 2)
    flips.clear()
    program = R2P(TASK.signature, retriever=default_retriever(TASK), candidates=2, reconcile="synthesis")
    reflection = model(propose, "test/strong") if optimizer == "mipro" else None  # without, simba makes demos alone
    with dspy.context(lm=model(stumbling)), optimizing():
        context = CompileContext(program, TASK, composite(TASK), TRAIN[:8], DEV[:3], threads=1, reflection=reflection)
        best = OPTIMIZERS[optimizer].run(context)
    candidates = [
        copy_learned_state(program, candidate)
        for candidate in (best, *(candidate["program"] for candidate in getattr(best, "candidate_programs", [])))
    ]
    assert any(candidate.reason.demos for candidate in candidates) and any(
        candidate.synthesize.demos for candidate in candidates
    )
    for candidate in candidates:
        assert [name for name, _ in candidate.named_predictors()] == ["reason", "synthesize"]
        check_clean(candidate, TRAIN)
        for demo in candidate.reason.demos:
            assert [evidence.item for evidence in demo["evidence"]] == ["1"], "the attempt that was accepted"
        for demo in candidate.synthesize.demos:
            assert {*demo.keys()} == {*candidate.synthesize.signature.fields, "augmented"}
            assert demo["comparison"] == "the first is right" and '"item": "9"' not in demo["candidates"]
            gold = next(example for example in TRAIN if example[TASK.question] == demo[TASK.question])
            assert demo[TASK.answer] == gold[TASK.answer]


def test_simba_without_reflection_collects_demos_only():
    flips.clear()
    winner, summary, *_ = compiled("simba", sampled, reflect=False, train=TRAIN[:8])
    assert summary["winner"] == "compiled" and winner.reason.demos and summary["instructions"] == []
    check_clean(winner, TRAIN)


def test_simba_takes_no_demo_of_a_wrong_answer():
    """Of runs that are all wrong the best still beats the others, by its structure."""

    def say(request):
        text = answer(request, False)
        case, _ = asked_example(request)
        flips[case.id] = flips.get(case.id, 0) + 1
        return text.replace('"approved": true', '"approved": false') if flips[case.id] % 2 else text

    flips.clear()
    winner, summary, *_ = compiled("simba", say, reflect=False, train=TRAIN[:8])
    assert summary["winner"] == "uncompiled" and winner.reason.demos == []


def test_gepa_reflects_on_stages_and_unreadable_answers():
    def say(request):
        case, _ = asked_example(request)
        if HELPS in (request.system or ""):
            return answer(request, True)
        if EXAMPLES.index(case) % 2:
            return "I will not write fields."
        if request.messages[-1].role == "user" and "not accepted" in request.messages[-1].text:
            return answer(request, True)
        return answer(request, True).replace('"item": "1"', '"item": "9"')

    _, summary, _, reflection = compiled("gepa", say)
    assert summary["instructions"] == ["reason"]
    shown = "\n".join(reflection.prompts())
    assert "Stage evidence fails [cited]: There is no item 9" in shown and "Backtracking mended it" in shown
    assert "I will not write fields." in shown and "failed to parse" in shown


def test_mipro_proposer_sees_demos_but_no_histories():
    _, _, engine, reflection = compiled("mipro", taught_by(KNOWN, demos=False))
    shown, prompts = "\n".join(reflection.prompts()), "\n".join(engine.prompts())
    items = {item.text for example in TRAIN for item in Profile.of(example["profile"])}
    assert any(text in shown for text in items), "it sees demos"
    assert all(text in prompts for text in items if text in shown), "with the items that were retrieved, and no more"
    assert any(text not in prompts for text in items)
    assert "class R2P" not in shown and max(map(len, reflection.prompts())) < 10_000


def test_copro_works_with_single_completions():
    winner, summary, _, reflection = compiled("copro", taught_by(KNOWN))
    assert summary["instructions"] == ["reason"] and winner.reason.demos == []
    assert "The tag, please:" not in json.dumps(winner.dump_state()), "its prefixes are no part of the program"
    assert reflection.requests


class TestNearest:
    def test_demos_nearest_to_most_dev_questions_win(self):
        words = {TRAIN[1][TASK.question], *(example[TASK.question] for example in DEV)}

        def embedder(texts):
            near = [any(text == f"{TASK.question}: {word}" for word in words) for text in texts]
            return np.array([[1.0, 0.0] if is_near else [0.0, 1.0] for is_near in near])

        program = r2p(TASK)
        program.retriever = Dense(embedder, k=4, query=program.retriever.query, text=program.retriever.text)
        context = CompileContext(program, TASK, composite(TASK), TRAIN, DEV, threads=4)
        with dspy.context(lm=model(taught_by(KNOWN))), optimizing():
            winner = OPTIMIZERS["knn"].run(context)
        assert winner.reason.demos[0][TASK.question] == TRAIN[1][TASK.question]

    def test_single_passing_example(self):
        winner, *_ = compiled("knn", taught_by(KNOWN[:1]))
        assert [demo[TASK.question] for demo in winner.reason.demos] == [KNOWN[0][TASK.question]]

    def test_answering_costs_one_call(self):
        winner, _, engine, _ = compiled("knn", taught_by(KNOWN))
        engine.requests.clear()
        with dspy.context(lm=dspy.LM("test/model", engine=engine, cache=False)):
            winner(**DEV[0].inputs())
        assert len(engine.requests) == 1


class Tuned(TrainingJob):
    def status(self):
        return "done"


def tunable(rows, say=knowing(EXAMPLES)):  # noqa: B008
    """What makes a model trainable; the trained one is `say`'s."""

    class Trainable(dspy.LM):
        def finetune(self, train_data, train_data_format, train_kwargs=None):
            rows.extend(train_data)
            job = Tuned(thread=Thread(target=lambda: None), train_data=train_data)
            job.thread.start()
            job.set_result(model(say, "test/tuned") if not isinstance(say, Exception) else say)
            return job

    return lambda lm: Trainable(lm.model, engine=lm.engine, cache=False, num_retries=0)


class TestBetterTogether:
    def test_trains_on_passing_runs_then_searches_prompts(self, tmp_path):
        rows = []
        winner, summary, *_ = compiled("better-together", taught_by(KNOWN, demos=False), trainable=tunable(rows))
        assert summary["winner"] == "compiled" and summary["trained"] == "test/tuned"
        assert winner.reason.lm.model == "test/tuned"
        golds = {example[TASK.answer] for example in KNOWN}
        assert len(rows) == len(KNOWN), "one a passing run; as a number the score would let in all"
        for row in rows:
            last = row["messages"][-1]
            assert last["role"] == "assistant" and any(f"[[ ## tag ## ]]\n{gold}" in last["content"] for gold in golds)
            assert len(row["messages"]) == 3, "no demos: the weights are to hold what demos taught"
        check_clean(winner, TRAIN)
        assert "tuned" not in save_program(winner, tmp_path / "program.json").read_text()

    def test_failure_of_a_step_is_raised(self):
        with pytest.raises(RuntimeError, match="no memory"):
            compiled("better-together", taught_by(KNOWN), trainable=tunable([], RuntimeError("no memory")))


def test_old_name_of_better_together_warns():
    with pytest.warns(FutureWarning, match="'together' is now called 'better-together'"):
        assert find_optimizer("together") is OPTIMIZERS["better-together"]


@pytest.mark.parametrize(
    "known, least, passing, tried",
    [
        (EXAMPLES, 3, 16, 16),
        (EXAMPLES[20:], 0, 12, 32),
        (EXAMPLES[:2], 0, 2, 40),
        (EXAMPLES[:2], 3, 2, 32),
        ([], 0, 0, 40),
    ],
    ids=[
        "all pass: as many as run at a time",
        "the first fail: more are tried",
        "few pass: all are tried",
        "fewer than wanted",
        "none",
    ],
)
def test_demos_come_from_passing_examples(known, least, passing, tried):
    with dspy.context(lm=model(knowing(known))), optimizing():
        found = find_passing(r2p(TASK), composite(TASK), EXAMPLES, threads=16, least=least)
    assert (len(found.examples), found.tried) == (passing, tried)
    assert {example.id for example in found.examples} <= {example.id for example in known}


@pytest.mark.parametrize("optimizer", ["random", "bootstrap", "knn"])
def test_without_passing_examples_nothing_is_compiled(optimizer):
    lines = []
    _, summary, engine, _ = compiled(optimizer, knowing([]), reflect=False, progress=lines.append)
    assert summary["winner"] == "uncompiled" and summary["demos"] == 0 and summary["dev_scores"] == {}
    assert summary["passing"] == {"passed": 0, "tried": len(TRAIN)}
    assert len(engine.requests) == 2 * len(TRAIN) + len(DEV), "each is tried twice, the second time with its answer"
    assert f"0 of {len(TRAIN)} training examples pass the gate and can become demos" in lines


@pytest.mark.parametrize("optimizer", ["random", "mipro", "gepa"])
def test_same_seed_compiles_the_same_program(optimizer):
    runs = [compiled(optimizer, taught_by(KNOWN), seed=3) for _ in range(2)]
    states = [json.dumps(winner.dump_state(), sort_keys=True) for winner, *_ in runs]
    assert states[0] == states[1] and runs[0][1] == runs[1][1]
    assert len(runs[0][2].requests) == len(runs[1][2].requests)


@pytest.mark.parametrize(
    ("why", "optimizer", "change", "message"),
    [
        ("an unknown optimizer", "magic", {}, "unknown optimizer 'magic'; the optimizers are bootstrap, random, mipro"),
        ("no model that writes", "gepa", {"reflect": False}, "gepa needs a model that writes .* --reflection-model"),
        ("no model that writes", "mipro", {"reflect": False}, "mipro needs a model that writes"),
        ("no model that writes", "copro", {"reflect": False}, "copro needs a model that writes"),
        (
            "nothing that trains",
            "better-together",
            {},
            "better-together trains the .* weights, which cannot",
        ),
        ("too few to train on", "random", {"train": TRAIN[:2]}, "random needs at least 3 .* not 2 and 6"),
        ("too few for a batch", "simba", {"train": TRAIN[:7]}, "simba needs at least 8 .* not 7 and 6"),
        ("no dev set", "gepa", {"dev": []}, "1 dev example, not 12 and 0"),
        (
            "a question on both sides",
            "random",
            {"dev": [*DEV, TRAIN[3]]},
            f"question {TRAIN[3].id} is in the train",
        ),
        ("weights that are none", "random", {"weights": {"style": 1.0}}, "unknown part 'style'"),
        ("a threshold that is none", "random", {"threshold": 2.0}, "threshold of the task's score"),
    ],
)
def test_refused_before_any_call(why, optimizer, change, message):
    engine = []

    def say(request):
        engine.append(request)
        return answer(request, True)

    with pytest.raises(ValueError, match=message):
        compiled(optimizer, say, **change)
    assert not engine, why


class TestFailing:
    @staticmethod
    def metric(monkeypatch, fails):
        """The task's metric, which raises where `fails` says so of (gold, answer)."""

        class Metric:
            def score(self, answer, gold, labels):
                if fails(gold):
                    raise KeyError("no such user")
                return float(answer == gold)

        monkeypatch.setattr(type(TASK), "metric", lambda task, name: Metric())

    def test_metric_failing_on_one_example_is_counted(self, monkeypatch):
        bad = KNOWN[0][TASK.answer]
        self.metric(monkeypatch, lambda gold: gold == bad)
        winner, summary, *_ = compiled("random", taught_by(KNOWN))
        assert summary["winner"] == "compiled" and summary["failures"]["metric"] > 0
        assert bad not in [demo[TASK.answer] for demo in winner.reason.demos]

    @pytest.mark.parametrize("optimizer", ["random", "gepa", "simba"])
    def test_metric_failing_on_all_stops_with_traceback(self, optimizer, monkeypatch):
        self.metric(monkeypatch, lambda gold: True)
        with pytest.raises(
            MetricError, match="fails on all 6 examples, first with KeyError: 'no such user'"
        ) as stopped:
            compiled(optimizer, taught_by(KNOWN))
        for error in (stopped.value, pickle.loads(pickle.dumps(stopped.value))):
            assert "in score" in error.traceback and "no such user" in error.traceback
        assert isinstance(stopped.value.__cause__, KeyError), "the metric's own error"

    def test_program_failing_on_one_example_is_counted(self):
        def fussy(inputs, outcome):
            if inputs.fields[TASK.question] == TRAIN[0][TASK.question]:
                raise KeyError("a fault of the check")
            return True

        program = r2p(TASK)
        program.checks = (*program.checks, Assert(fussy))
        winner, summary, *_ = compiled("random", taught_by(KNOWN), program=program)
        assert summary["failures"]["program"] >= 1 and summary["winner"] == "compiled"
        assert TRAIN[0][TASK.question] not in [demo[TASK.question] for demo in winner.reason.demos]

    @pytest.mark.parametrize("optimizer", ["gepa", "mipro", "copro"])
    def test_failing_reflection_model_raises_its_own_error(self, optimizer):
        reflection = model(lambda request: RuntimeError("over quota"), "test/strong")
        with pytest.raises(Exception, match="over quota"):
            compiled(optimizer, taught_by(KNOWN), reflection=reflection)
        assert len(reflection.engine.requests) <= 8

    def test_gepa_keeps_its_best_when_reflection_fails(self):
        written = []

        def once(request):
            written.append(request)
            return propose(request).replace(HELPS, "") if len(written) == 1 else RuntimeError("over quota")

        lines = []
        say = taught_by(KNOWN)
        reflection = model(once, "test/strong")
        _, summary, *_ = compiled("gepa", say, reflection=reflection, progress=lines.append)
        assert (
            summary["winner"] == "uncompiled" and summary["dev_scores"]["gepa"] == summary["dev_scores"]["uncompiled"]
        )
        assert any("the reflection model fails" in line and "over quota" in line for line in lines)

    @pytest.mark.parametrize("optimizer", ["bootstrap", "gepa"])
    @pytest.mark.parametrize("dev", [DEV, EXAMPLES[20:40]], ids=["few", "more than DSPy bears"])
    def test_unreachable_model_raises_its_own_error(self, optimizer, dev):
        with pytest.raises(Exception, match="connection refused"):
            compiled(optimizer, lambda request: ConnectionError("connection refused"), dev=dev)


def test_copy_keeps_whole_distinct_demos_and_instructions():
    winner, _, *_ = compiled("bootstrap", taught_by(KNOWN))
    whole = winner.reason.demos[0]
    other = r2p(TASK)
    other.reason.demos = [whole, whole.copy(hint_="try", tag="x").without("draft"), whole.copy(), TRAIN[0]]
    other.reason.signature = other.reason.signature.with_instructions("New.")
    other.candidate_programs = [1]
    clean = copy_learned_state(r2p(TASK), other)
    assert clean.reason.demos == [whole] and clean.reason.signature.instructions == "New."
    assert not hasattr(clean, "candidate_programs")


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (None, None),
        ("task=1", {"task": 1.0}),
        ("task=0.5, evidence = .5", {"task": 0.5, "evidence": 0.5}),
    ],
)
def test_parse_weights(text, weights):
    assert parse_weights(text) == weights


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "PART=NUMBER"),
        ("task", "not 'task'"),
        ("task=much", "not 'task=much'"),
        ("task=1,task=0", "names 'task' twice"),
        ("style=1", "unknown part 'style'"),
        ("task=0", "not all 0"),
        ("task=nan", "must be numbers"),
        ("task=1,", "PART=NUMBER"),
    ],
)
def test_unreadable_weights(text, message):
    with pytest.raises(ValueError, match=message):
        parse_weights(text)


def test_weights_and_threshold_decide_and_are_reported():
    _, summary, *_ = compiled("random", taught_by(KNOWN), weights={"structure": 1.0}, threshold=0.0)
    assert summary["metric"] == {"task": "accuracy", "weights": {"structure": 1.0}, "threshold": 0.0}
    assert summary["dev_scores"]["uncompiled"] == 100, "only the structure counts"
    assert summary["passing"] == {"passed": 12, "tried": 12}, "so every answer may be a demo"


@pytest.mark.parametrize("optimizer", ["random", "bootstrap", "knn"])
def test_weak_program_gets_demos_of_answers_that_it_was_told(optimizer, tmp_path):
    """Its model is right only where it is told the answer, or has seen demos."""

    def say(request):
        return answer(request, "The right answer is known" in request.messages[-1].text or len(request.messages) > 2)

    lines = []
    winner, summary, engine, _ = compiled(optimizer, say, reflect=False, progress=lines.append)
    assert summary["winner"] == "compiled" and summary["demos"] >= 1
    assert summary["passing"] == {"passed": len(TRAIN), "tried": len(TRAIN)}
    check_clean(winner, TRAIN)
    check_bare(winner, tmp_path)
    assert "is known" not in json.dumps(winner.dump_state()), "a demo says nothing of the request"
    assert any("told the answers" in line for line in lines)
    golds = {example[TASK.question]: example[TASK.answer] for example in TRAIN}
    for prompt in engine.prompts():
        if "is known" in prompt:
            assert any(question in prompt and f"known: {gold}" in prompt for question, gold in golds.items())
