"""DSPy's optimizers on R2P: the demos that they collect, and programs that are saved and nested."""

import json
import re

import dspy
import pytest
from dspy.teleprompt import BootstrapFewShot, BootstrapFewShotWithRandomSearch, LabeledFewShot

from r2p_dspy import R2P, Composite, load_program, optimizing, save_program
from tests.film import FILM, HISTORY, Film, ask, program
from tests.scripted import completion, written

SAID = "not accepted"
METRIC = Composite(lambda row, answer: float(row.tag == answer.tag)).optimizer_metric


def rows(start=0, count=6):
    """Films with a number, each with a history of its own; the right tag tells the number."""
    return [
        dspy.Example(
            film=f"film number {n}",
            profile=[{"id": f"own {n}", "text": f"film seen {n}", "label": "x"}],
            tag=f"tag {n}",
        ).with_inputs("film", "profile")
        for n in range(start, start + count)
    ]


def model(request):
    """Knows every film. Even numbers take two attempts, of which the first invents an item; multiples of 3 fail."""
    prompts = [message.text for message in request.messages]
    number = int(re.findall(r"film number (\d+)", "\n".join(prompts))[-1])
    right = {
        "requirements": f"requirement {number}",
        "evidence": f'[{{"item": "1", "quote": "seen {number}"}}]',
        "preferences": '[{"statement": "s", "items": ["1"], "label": "x"}]',
        "draft": f"tag {number}",
        "tag": f"tag {number}" if number % 3 else "fantasy",
    }
    first = SAID not in prompts[-1]
    return completion(
        **right | ({"evidence": '[{"item": "7", "quote": "invented"}]'} if first and not number % 2 else {})
    )


@pytest.fixture
def engine(scripted):
    engine = scripted(model)  # before: contexts are left in the opposite order, or the last one's settings stay
    with optimizing():
        yield engine


def check_demos(module, numbers):
    """Each demo is whole, of an accepted attempt, and says nothing of feedback."""
    assert [demo.film for demo in module.reason.demos] == [f"film number {n}" for n in numbers]
    for number, demo in zip(numbers, module.reason.demos, strict=True):
        assert set(module.reason.signature.fields) | {"augmented"} == set(demo.keys())
        assert demo.evidence[0].quote == f"seen {number}", "the accepted attempt, though the first one failed"
        assert demo.tag == f"tag {number}"
        assert (demo.profile[0].id, demo.profile[0].ref) == ("1", f"own {number}")
        assert SAID not in str(demo)
        assert "invented" not in str(demo)
    assert len(module.reason.usable_demos(module.reason.demos)) == len(numbers)


class TestBootstrapping:
    def test_demos_hold_accepted_stages(self, engine):
        module = program()
        few = BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=3, max_labeled_demos=0)
        compiled = few.compile(module, trainset=rows(1, 6))
        check_demos(compiled, [1, 2, 4])
        assert module.reason.demos == []
        assert compiled.enforce.module is compiled.reason

        ask(compiled, film="film number 7", profile=rows(7, 1)[0].profile)
        prompt = engine.prompts()[-1]
        assert [f"requirement {n}" in prompt for n in (1, 2, 4)] == [True] * 3
        assert SAID not in prompt

    def test_labelled_demos_stay_out_of_prompts(self, engine):
        few = BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=1, max_labeled_demos=16)
        compiled = few.compile(program(), trainset=rows(1, 6))
        assert len(compiled.reason.demos) > 1
        ask(compiled, film="film number 7", profile=rows(7, 1)[0].profile)
        assert len(engine.requests[-1].messages) == 3, "one demo and the question"
        assert "Not supplied" not in engine.prompts()[-1]

    def test_random_search_finds_demos(self, engine, capsys):
        search = BootstrapFewShotWithRandomSearch(
            metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=2, num_candidate_programs=2, num_threads=2
        )
        module = program()
        best = search.compile(module, trainset=rows(1, 6), valset=rows(7, 3))
        scores = {candidate["seed"]: candidate["score"] for candidate in best.candidate_programs}
        assert set(scores) == {-3, -2, -1, 0, 1}
        assert all(0 < score < 100 for score in scores.values()), "9 fails, 8 takes two attempts"
        for candidate in best.candidate_programs:
            if candidate["seed"] == -1:
                check_demos(candidate["program"], [1, 2])
            assert candidate["program"].enforce.module is candidate["program"].reason

    def test_lm_set_on_the_program(self, engine):
        module = program()
        module.set_lm(dspy.settings.lm)
        few = BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=0)
        with dspy.context(lm=None):
            compiled = few.compile(module, trainset=rows(1, 3))
        check_demos(compiled, [1, 2])
        assert [name for name, _ in compiled.named_predictors()] == ["reason"]


COMPOSITE = Composite(lambda row, answer: float(row.tag == answer.tag))


@pytest.mark.parametrize(
    "optimizer",
    [
        BootstrapFewShot(metric=COMPOSITE, max_bootstrapped_demos=1, max_labeled_demos=0),
        BootstrapFewShotWithRandomSearch(
            metric=COMPOSITE, max_bootstrapped_demos=1, max_labeled_demos=0, num_candidate_programs=1, num_threads=2
        ),
        dspy.SIMBA(metric=COMPOSITE, bsize=4, num_candidates=2, max_steps=1, max_demos=1, num_threads=2),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_composite_itself_is_a_metric(engine, optimizer):
    compiled = optimizer.compile(program(), trainset=rows(1, 6))
    assert all(demo.tag == f"tag {number(demo)}" for demo in compiled.reason.demos), "only accepted answers are demos"


def number(demo):
    return int(re.search(r"film number (\d+)", demo.film)[1])


def test_labelled_demos_leave_the_prompt(engine):
    module = program()
    compiled = LabeledFewShot(16).compile(module, trainset=rows(0, 16))
    assert len(compiled.reason.demos) == 16
    for each in (module, compiled):
        ask(each, film="film number 1", profile=rows(1, 1)[0].profile)
    assert engine.prompts()[0] == engine.prompts()[1]


def test_saved_program_sends_the_same_prompt(engine, tmp_path):
    few = BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=1)
    compiled = few.compile(program(), trainset=rows(1, 4))
    compiled.reason.signature = compiled.reason.signature.with_instructions("Choose well.")
    loaded = program()
    about = load_program(loaded, save_program(compiled, tmp_path / "film.json", task="film", notes={"seed": 1}))
    assert (about["task"], about["notes"]) == ("film", {"seed": 1})
    for each in (compiled, loaded):
        ask(each, film="film number 7", profile=rows(7, 1)[0].profile)
    assert engine.prompts()[-1] == engine.prompts()[-2]
    assert "Choose well." in engine.requests[-1].system
    assert "requirement 1" in engine.prompts()[-1]


class Outer(dspy.Module):
    """A program of somebody else's, with R2P in it."""

    def __init__(self):
        super().__init__()
        self.tagger = program()
        self.explain = dspy.Predict("film, tag -> why")

    def forward(self, film, profile):
        tagged = self.tagger(film=film, profile=profile)
        return dspy.Prediction(tag=tagged.tag, why=self.explain(film=film, tag=tagged.tag).why)


class TestNested:
    @pytest.fixture
    def outer(self, scripted):
        def answer(request):
            return written(why="because") if "`why`" in request.system else model(request)

        engine = scripted(answer)
        with optimizing():
            few = BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=0)
            yield few.compile(Outer(), trainset=rows(1, 4)), engine

    def test_compiles(self, outer):
        compiled, _ = outer
        assert [name for name, _ in compiled.named_predictors()] == ["tagger.reason", "explain"]
        check_demos(compiled.tagger, [1, 2])
        assert [demo.why for demo in compiled.explain.demos] == ["because"] * 2

    def test_dspy_save_and_load(self, outer, tmp_path):
        compiled, engine = outer
        compiled.save(tmp_path / "outer.json")
        loaded = Outer()
        loaded.load(tmp_path / "outer.json")
        row = rows(7, 1)[0]
        for each in (compiled, loaded):
            assert each(**row.inputs()).tag == "tag 7"
        first, second = engine.prompts()[-4:-2], engine.prompts()[-2:]
        assert first == second
        assert "requirement 1" in first[0]

    def test_state_of_the_program_alone_fits(self, engine, tmp_path):
        few = BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=0)
        few.compile(program(), trainset=rows(1, 4)).save(tmp_path / "film.json")
        loaded = R2P(Film)
        loaded.load(tmp_path / "film.json")
        ask(loaded, film="film number 7", profile=rows(7, 1)[0].profile)
        assert "requirement 1" in engine.prompts()[-1]


def test_teacher_with_another_model(scripted):
    teacher = scripted(model)
    lm = dspy.settings.lm
    scripted(completion())
    few = BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=0, teacher_settings={"lm": lm})
    with optimizing():
        compiled = few.compile(program(), trainset=rows(1, 3))
    check_demos(compiled, [1, 2])
    assert len(teacher.requests) == 3
    assert ask(compiled, film=FILM, profile=HISTORY).tag == "romance"


class TestSynthesis:
    """The predictor that compares candidates is tuned like any other."""

    @staticmethod
    def answers(request):
        """A comparison is right only where the instructions ask for care."""
        if "`comparison`" not in request.system:
            return model(request)
        right = re.findall(r'"tag": "(tag \d+)"', request.messages[-1].text)[-1]
        answer = right if "twice" in request.system else "fantasy"
        return written(comparison="they agree", tag=answer)

    def program(self):
        return program(candidates=2, reconcile="synthesis")

    def test_demos_of_accepted_comparisons(self, scripted):
        scripted(self.answers)
        module = self.program()
        module.synthesize.signature = module.synthesize.signature.with_instructions("Read twice.")
        few = BootstrapFewShot(metric=METRIC, max_bootstrapped_demos=2, max_labeled_demos=0)
        with optimizing():
            compiled = few.compile(module, trainset=rows(1, 4))
        check_demos(compiled, [1, 2])
        assert [demo.comparison for demo in compiled.synthesize.demos] == ["they agree"] * 2
        for number, demo in zip((1, 2), compiled.synthesize.demos, strict=True):
            lines = [json.loads(line) for line in demo.candidates.splitlines()]
            assert [line["tag"] for line in lines] == [f"tag {number}"] * 2
            assert SAID not in str(demo) and "invented" not in str(demo)

    def test_gepa_rewrites_instructions(self, scripted):
        scripted('{"new_instruction": "Read every candidate twice."}')
        reflection = dspy.settings.lm
        scripted(self.answers)
        gepa = dspy.GEPA(
            metric=Composite(lambda row, answer: float(row.tag == answer.tag)).gepa_metric,
            max_metric_calls=60,
            reflection_lm=reflection,
            reflection_minibatch_size=2,
            num_threads=1,
            seed=1,
        )
        with optimizing():
            compiled = gepa.compile(self.program(), trainset=rows(1, 2), valset=rows(4, 2))
        assert compiled.synthesize.signature.instructions == "Read every candidate twice."
        assert [name for name, _ in compiled.named_predictors()] == ["reason", "synthesize"]
