"""The examples run, offline, and do what they show."""

import contextvars
import re
import runpy
import subprocess
import sys
from pathlib import Path

import dspy
import pytest
from dspy.teleprompt import BetterTogether

from examples import newsletter, recommend, reply
from r2p_dspy import optimizing
from tests.scripted import AsyncScriptedEngine, ScriptedEngine

ROOT = Path(__file__).parents[1]


@pytest.fixture
def unconfigured(monkeypatch):
    """The examples configure DSPy and read the command line; here that ends with the test."""
    before = dspy.settings.lm
    monkeypatch.setattr(sys, "argv", ["example"])
    yield
    dspy.configure(lm=before)


ALONE = ("feedback_loop",)  # it serves, and runs commands, which have the terminal for themselves
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem not in ALONE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_example_runs_alone(name):
    command = [sys.executable, "-m", f"examples.{name}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    before, after = map(int, re.findall(r"(\d+)%", ran.stdout.splitlines()[-1]))
    assert before < after, "what was learned from feedback serves other users better"


@pytest.mark.parametrize("name", NAMES)
def test_example_runs(name, unconfigured, capsys):
    # In a context of its own, as in a fresh interpreter: no other test's settings lie over the configured ones.
    contextvars.Context().run(runpy.run_path, str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) > 3


def scripted(*texts):
    engine = ScriptedEngine(*texts)
    return dspy.LM("scripted/example", engine=engine, async_engine=AsyncScriptedEngine(engine), cache=False)


class TestNewsletter:
    def test_rejected_headline_is_held_back(self):
        def answer(request):
            article = request.messages[0].text.split("[[ ## article ## ]]\n")[1].splitlines()[0]
            headline = "Valster and chef" if article == newsletter.ARTICLES[0] else "Atlantis and chef"
            fields = {
                "requirements": "a headline",
                "evidence": '[{"item": "1", "quote": "after the"}]',
                "preferences": '[{"statement": "and", "items": ["1"]}]',
                "draft": headline,
                "verification": '{"approved": true, "reason": "item 1"}',
                "headline": headline,
            }
            return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())

        with dspy.context(lm=scripted(answer)):
            letter = newsletter.Newsletter()(articles=newsletter.ARTICLES, profile=newsletter.PROFILE)
        assert [headline for headline, *_ in letter.printed] == ["Valster and chef"]
        assert [article for article, _ in letter.held] == newsletter.ARTICLES[1:]
        assert all("not Atlantis" in reason for _, reason in letter.held)
        assert len(letter.attempts) == 1 + 3 + 3


class TestReply:
    def test_uses_the_tools(self):
        with dspy.context(lm=reply.stand_in()):
            answer = reply.Assistant()(mail=reply.MAIL, profile=reply.PROFILE)
        assert "15:30" in answer.reply and "16:00" not in answer.reply
        assert [len(attempt.unmet) for attempt in answer.attempts] == [1, 0]
        assert answer.cited == [reply.PROFILE[0]["reply"], reply.PROFILE[1]["reply"]]

    def test_optimizers_see_all_predictors(self):
        names = [name for name, _ in reply.Assistant().named_predictors()]
        assert names == ["gather.react", "gather.extract.predict", "write.reason"]


NAMES = ["foretell.reason", "explain.predict"]


class TestRecommender:
    """One optimizer tunes R2P's predictor and the one beside it."""

    @pytest.fixture(autouse=True)
    def lm(self):
        stand_in = dspy.LM("stand-in/large", engine=recommend.StandIn(), cache=False)
        with dspy.context(lm=stand_in), optimizing():
            yield

    @staticmethod
    def attempts(program):
        return [len(program(**row.inputs()).attempts) for row in recommend.examples("bob")]

    def random_search(self):
        return dspy.BootstrapFewShotWithRandomSearch(
            metric=recommend.SCORE.optimizer_metric,
            max_bootstrapped_demos=2,
            max_labeled_demos=0,
            num_candidate_programs=1,
            num_threads=2,
        )

    def gepa(self):
        return dspy.GEPA(
            metric=recommend.SCORE.gepa_metric,
            max_metric_calls=80,
            reflection_lm=scripted('{"new_instruction": "Work carefully."}'),
            reflection_minibatch_size=3,
            num_threads=1,
            seed=0,
        )

    def test_demos(self):
        program = recommend.Recommender()
        compiled = self.random_search().compile(
            program, trainset=recommend.examples("ann"), valset=recommend.examples("bob")
        )
        predictors = dict(compiled.named_predictors())
        assert list(predictors) == NAMES
        for name, fields in zip(NAMES, (("evidence", "liked"), ("cited", "why")), strict=True):
            demos = predictors[name].demos
            assert len(demos) == 2, name
            assert all(set(fields) <= set(demo.keys()) for demo in demos)
            assert "not accepted" not in str(demos) and "one for you" not in str(demos), "accepted attempts alone"
        assert self.attempts(program) == [4, 4, 4]
        assert self.attempts(compiled) == [2, 2, 2], "nothing needs to be mended any more"

    def test_instructions(self):
        compiled = self.gepa().compile(
            recommend.Recommender(), trainset=recommend.examples("ann"), valset=recommend.examples("bob")
        )
        instructions = {name: predictor.signature.instructions for name, predictor in compiled.named_predictors()}
        assert instructions == dict.fromkeys(NAMES, "Work carefully.")
        assert self.attempts(compiled) == [2, 2, 2]

    def test_both_and_saved(self, tmp_path):
        together = BetterTogether(metric=recommend.SCORE.optimizer_metric, p=self.random_search(), g=self.gepa())
        program = recommend.Recommender()
        program.set_lm(dspy.settings.lm)
        compiled = together.compile(
            program, trainset=recommend.examples("ann"), valset=recommend.examples("bob"), strategy="g -> p"
        )
        assert self.attempts(compiled) == [2, 2, 2]
        compiled.set_lm(None)
        compiled.save(tmp_path / "recommender.json")
        loaded = recommend.Recommender()
        loaded.load(tmp_path / "recommender.json")
        assert loaded.dump_state() == compiled.dump_state()
        assert self.attempts(loaded) == [2, 2, 2]
