"""`--tune`: what is searched, what is given up, who wins, and that programs are built as they were tuned."""

import json
import re
from dataclasses import replace

import dspy
import pytest
from dspy.lm15 import Usage
from dspy.utils.exceptions import LMInvalidRequestError
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

import programs
from programs.data.dataset import personas
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, lamp_files
from programs.evaluate.measuring import Measurer
from programs.evaluate.setup import Setup
from programs.optimize.compiling import composite
from programs.optimize.safe_metric import MetricError, SafeMetric
from programs.optimize.trials import Trial, Tuning
from programs.optimize.tuning import SPACE, search_space, tune
from programs.optimize.tuning_run import run_tuning, summarize
from programs.runs.active import open_run
from programs.runs.configs import CompileConfig
from programs.runs.reporter import Reporter
from programs.tasks import TASKS, lamp2
from programs.tasks.program import R2PConfig, build, resolve
from programs.tasks.task import Task
from programs.ui.plots import plot_tuning
from r2p_dspy import Composite, Suggest
from r2p_dspy.artifact import save_program
from r2p_dspy.errors import ArtifactError, ConfigError
from tests.scripted import STAGES, ScriptedEngine
from tests.test_cli import report_of, run

TASK = lamp2.TASK
START = R2PConfig()
DATA = personas(TASK, seed=0, limit=6)


class Stop(BaseException):
    """A budget that is spent."""


def rows(scores, tokens=100):
    row = {"user": None, "calls": 1, "prompt_tokens": tokens // 2, "completion_tokens": tokens - tokens // 2}
    return [{**row, "score": float(score)} for score in scores]


class World:
    """Settings with known scores and tokens; notes what was measured."""

    def __init__(self, score, tokens=lambda settings: 50 * settings.k * settings.candidates, most=None):
        self.score, self.tokens, self.most = score, tokens, most
        self.measured = []

    def __call__(self, settings, count):
        if len(self.measured) == self.most:
            raise Stop("the budget of calls is spent")
        self.measured.append((settings, count))
        # Right on so many of the examples, spread over all of them.
        share = self.score(settings)
        return rows([int((at + 1) * share) > int(at * share) for at in range(count)], self.tokens(settings))


def search(world, trials=24, examples=60, fixed=(), **options):
    return tune(world, search_space(TASK, START, fixed), START, examples, trials=trials, **options)


def test_first_trials_change_one_setting_each():
    tuning = search(World(lambda settings: 0.9), trials=12)
    assert tuning.trials[0].settings == START
    changed = [
        {name for name in R2PConfig.model_fields if getattr(trial.settings, name) != getattr(START, name)}
        for trial in tuning.trials[1:]
    ]
    assert {frozenset(names) for names in changed} == {
        frozenset([name]) for name in ("template", "history", "k", "carrier", "candidates", "retriever")
    }


def test_finds_a_combination_of_settings():
    good = World(lambda settings: 0.95 if settings.template == "brief" and settings.retriever == "recency" else 0.6)
    winner = search(good, trials=30).winner
    assert (winner.settings.template, winner.settings.retriever) == ("brief", "recency")


def test_same_seed_same_trials_none_repeated():
    worlds = [World(lambda settings: min(1, 0.5 + settings.k / 16)) for _ in range(2)]
    first, second = (search(world, seed=3) for world in worlds)
    assert worlds[0].measured == worlds[1].measured and first.winner.settings == second.winner.settings
    whole = [str(settings) for settings, count in worlds[0].measured if count == 60]
    assert len(whole) == len(set(whole)) and len(first.trials) == 24


def test_small_space_ends_the_search():
    fixed = set(SPACE) - {"template", "carrier"}
    assert len(search(World(lambda settings: 0.5), fixed=fixed).trials) == 4
    assert len(search(World(lambda settings: 0.5), fixed=SPACE).trials) == 1


@pytest.mark.parametrize(
    ("score", "tokens", "given_up"),
    [(0.2, 10, True), (0.8, 1000, True), (0.8, 10, False), (1.0, 1000, False)],
    ids=["surely worse", "dearer and nowhere better", "cheaper", "better and dearer"],
)
def test_hopeless_trial_is_given_up_after_a_third(score, tokens, given_up):
    world = World(
        lambda settings: score if settings.template == "brief" else 0.8,
        lambda settings: tokens if settings != START else 100,
    )
    brief = search(world, trials=2, fixed=set(SPACE) - {"template"}).trials[1]
    assert brief.complete != given_up and len(brief.rows) == (20 if given_up else 60)


def test_additions_to_a_costly_failure_are_skipped():
    world = World(
        lambda settings: 0.1 if settings.template == "brief" else 0.8,
        lambda settings: 900 if settings.template == "brief" else 90,
    )
    assert [trial.settings.template for trial in search(world).trials].count("brief") == 1
    cheap = World(
        lambda settings: 0.1 if settings.template == "brief" else 0.8,
        lambda settings: 9 if settings.template == "brief" else 90,
    )
    assert [trial.settings.template for trial in search(cheap).trials].count("brief") > 1


def of(scores, tokens, **settings):
    return Trial(R2PConfig(**settings), rows(scores, tokens), complete=True)


START_TRIAL = of([1] * 57 + [0] * 3, 100)


@pytest.mark.parametrize(
    ("scores", "tokens", "wins"),
    [
        ([1] * 57 + [0] * 3, 99, True),
        ([1] * 57 + [0] * 3, 101, False),
        ([1] * 56 + [0] * 4, 70, True),
        ([1] * 54 + [0] * 6, 1, False),
        ([1] * 60, 500, True),
        ([1] * 58 + [0] * 2, 500, False),
    ],
    ids=["as good", "dearer", "one answer less", "three less", "three more, dear", "one more, dear"],
)
def test_cheapest_within_one_standard_error_wins(scores, tokens, wins):
    other = of(scores, tokens, k=2)
    assert (Tuning([START_TRIAL, other]).winner is other) == wins


def test_finalists_are_compared_on_further_examples():
    # On the first 60 as good as the start, and cheaper; after that it always fails.
    def measure(settings, count):
        return rows([settings.k == 4 or at < 60 for at in range(count)], 20 * settings.k)

    choices = {"k": (4, 2)}
    assert tune(measure, choices, START, 60, trials=2).winner.settings.k == 2
    tuning = tune(measure, choices, START, 60, trials=2, further=20)
    assert tuning.winner.settings.k == 4
    assert {trial.settings.k: len(trial.rows) for trial in tuning.finals} == {2: 80, 4: 80}
    alone = tune(measure, {"k": (4,)}, START, 60, trials=2, further=20)
    assert not alone.finals and alone.winner.settings.k == 4, "there is nothing to decide"


def test_finalists_are_cheapest_best_and_start():
    start, *others = [
        of([1] * 50 + [0] * 10, 90),
        of([1] * 60, 500, k=8),
        *(of([1] * 59 + [0], n, k=n) for n in range(1, 6)),
    ]
    assert [trial.tokens for trial in Tuning([start, *others]).finalists] == [1, 2, 3, 500, 90]


def test_given_up_trial_never_wins_but_may_be_on_frontier():
    cheap, dear = (Trial(R2PConfig(k=k), rows([1] * 10 + [0] * 10, k), complete=False) for k in (1, 200))
    lucky = Trial(R2PConfig(k=300), rows([1] * 20, 300), complete=False)
    tuning = Tuning([START_TRIAL, cheap, dear, lucky])
    assert tuning.best is tuning.winner is START_TRIAL
    assert tuning.frontier(lambda trial: trial.tokens) == [cheap, START_TRIAL]


@pytest.mark.parametrize("tokens", [0, 100])
def test_plot_of_a_single_trial(tokens, tmp_path):
    summary = summarize(Tuning([of([1] * 5, tokens)]))
    plot_tuning(summary, "title", tmp_path / "tuning.png")
    assert imread(tmp_path / "tuning.png").shape[1] > 1000 and summary["trials"][0]["frontier"] == ["completion", "all"]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=8))
def test_frontier_is_not_dominated(points):
    trials = [of([score / 5], tokens, k=at) for at, (score, tokens) in enumerate(points)]
    frontier = Tuning(trials).frontier(lambda trial: trial.tokens)

    def beats(trial, other):
        as_good = trial.score >= other.score and trial.tokens <= other.tokens
        return as_good and (trial.score, trial.tokens) != (other.score, other.tokens)

    assert not any(beats(trial, other) for trial in trials for other in frontier)
    for other in trials:
        assert any(
            trial is other or (trial.score >= other.score and trial.tokens <= other.tokens) for trial in frontier
        )


@pytest.mark.parametrize(("most", "whole"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_reached_limit_keeps_measured_trials(most, whole):
    world = World(lambda settings: 0.9 if settings.template == "brief" else 0.5, most=most)
    tuning = search(world, stops=(Stop,))
    assert isinstance(tuning.stopped, Stop)
    assert sum(trial.complete for trial in tuning.trials) == whole
    assert (tuning.winner.settings.template == "brief") == (whole == 2)


def test_limit_before_the_first_trial_is_raised():
    with pytest.raises(Stop):
        search(World(lambda settings: 1, most=0), stops=(Stop,))


def test_search_space_fits_task_and_fixed_settings():
    choices = search_space(TASK, R2PConfig(retriever="dense:mine", k=5), fixed=["template"])
    assert "template" not in choices and choices["k"][0] == 5 and choices["retriever"][0] == "dense:mine"
    assert choices["history"] == ("list", "turns")
    assert "history" not in search_space(TASKS["lamp7"], START)
    late = Suggest(lambda inputs, outcome: True, name="late", after="draft")
    checked = Task(**{**TASK.__dict__, "checks": (late,)})
    assert search_space(checked, START)["template"] == ("full",)


# Whole runs, on a model that is right when it is asked briefly.


class Counting(ScriptedEngine):
    """Tokens as there are words."""

    def complete(self, request):
        response = super().complete(request)
        input_tokens = sum(len((message.text or "").split()) for message in request.messages)
        output_tokens = len(response.message.text.split())
        usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens, total_tokens=input_tokens + output_tokens)
        return replace(response, usage=usage)


def write(request):
    prompt = "\n".join(message.text or "" for message in request.messages)
    if "<evidence>" in prompt:
        raise LMInvalidRequestError("no thinking here", model="test")
    case = next(
        example for part in (DATA.train, DATA.dev, DATA.test) for example in part if example.description in prompt
    )
    shown = re.findall(r'^\{"item": "\d+", "description".*$', prompt, re.MULTILINE)  # in a list, not as turns
    right = "draft" not in prompt
    tag = case.tag if right else next(label for label in lamp2.LABELS if label != case.tag)
    fields = {
        "reasoning": "hm",
        **STAGES,
        "evidence": json.dumps([{"item": "1", "quote": json.loads(line)["description"]} for line in shown[:1]]),
        "preferences": json.dumps([{"statement": "tags so", "items": ["1"]} for _ in shown[:1]]),
        "draft": tag,
        "tag": tag,
    }
    wanted = [name for name in fields if f"[[ ## {name} ## ]]" in prompt]
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{fields[name]}" for name in wanted), "[[ ## completed ## ]]"])


@pytest.fixture
def engine(monkeypatch):
    engine = Counting(write)
    monkeypatch.setattr(
        "programs.runs.model.connect",
        lambda model, **options: dspy.LM("scripted/x", engine=engine, cache=False, num_retries=0),
    )
    monkeypatch.setattr("programs.data.dataset._DEV", 12)
    return engine


TUNE = ("compile", "--tune", "--optimizer", "none", "--limit", 6, "--model", "test/x", "--num-threads", 4)


def test_tuned_program_is_loaded_with_its_settings(engine, tmp_path):
    out = tmp_path / "run"
    result = run(*TUNE, "--trials", 9, "--output", out)
    assert result.exit_code == 0, result.output + result.stderr
    report = report_of(out)
    tuning = report["tuning"]
    assert len(tuning["trials"]) == 9 and tuning["start"] == str(START) and "brief" in tuning["winner"]
    assert list(report["programs"]) == ["predict", "cot", "r2p", "tuned", "compiled", "cot:vote"]
    assert tuning["test"]["tuned"]["difference"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert 0 < tuning["test"]["tuned"]["tokens"]["all"] < 1
    refused = next(trial for trial in tuning["trials"] if trial["settings"]["carrier"] == "thinking")
    assert refused["score"]["value"] == 0
    assert imread(out / "tuning.png").shape[1] > 1000
    assert "winner" in result.stdout and "% of its completion tokens" in result.stdout

    settings = json.loads((out / "program.json").read_text())["settings"]
    winner = next(trial for trial in tuning["trials"] if trial["setting"] == tuning["winner"])
    assert settings == winner["settings"]
    loaded = programs.load("lamp2", str(out / "program.json"))
    assert loaded.reason.template.leaves()[0].name == "evidence" and loaded.retriever.k == settings["k"]

    users = tmp_path / "users.jsonl"
    users.write_text("".join(json.dumps(row) + "\n" for row in lamp_files(TASK, draw(MAKERS["lamp2"], "test", 2))[0]))
    predict = ("predict", "--input", users, "--model", "test/x", "--program", out / "program.json")
    engine.requests.clear()
    assert run(*predict, "--output", tmp_path / "answers.jsonl").exit_code == 0
    assert len(engine.requests) >= 2 and not any("draft" in prompt for prompt in engine.prompts())

    common = ("evaluate", "--limit", 2, "--model", "test/x", "--program", out / "program.json")
    assert run(*common, "--output", tmp_path / "as-tuned").exit_code == 0
    again = report_of(tmp_path / "as-tuned")
    assert again["k"] == settings["k"] and again["programs"]["compiled"]["metrics"]["accuracy"]["value"] == 1
    assert again["programs"]["r2p"]["metrics"]["accuracy"]["value"] == 0, "uncompiled is R2P as it comes"
    assert run(*common, "--k", 3, "--output", tmp_path / "other").exit_code == 0
    assert report_of(tmp_path / "other")["k"] == 3
    refused = run(*common, "--template", "full", "--output", tmp_path / "refused")
    assert refused.exit_code == 2 and "stage requirements" in refused.stderr


def test_each_program_has_the_temperature_that_is_best_for_it(engine, tmp_path):
    """The model is right at one temperature: one for R2P, another for the others."""

    def at_its_best(request):
        best = 0.5 if "draft" in request.messages[-1].text else 1.0
        right = write(request)
        case = next(example for example in [*DATA.train, *DATA.dev, *DATA.test] if example.description in str(request))
        said = case.tag if request.config.temperature == best else next(x for x in lamp2.LABELS if x != case.tag)
        return re.sub(r"(## (?:draft|tag) ## ]]\n)[^\n]*", rf"\g<1>{said}", right)

    engine.texts = [at_its_best]
    report = report_of_run(tmp_path / "tuned", "--trials", 30, "--template", "full", "--candidates", 1, "--k", 2)
    baselines = report["tuning"]["baselines"]
    assert [baselines[name]["temperature"] for name in ("predict", "cot", "cot:vote")] == [1.0] * 3
    assert baselines["cot"]["dev_scores"] == {"0": 0.0, "0.5": 0.0, "1": 1.0}
    assert baselines["cot:vote"]["chains"] >= 3
    assert "temperature=0.5" in report["tuning"]["winner"]
    reached = {name: entry["metrics"]["accuracy"]["value"] for name, entry in report["programs"].items()}
    assert reached == {"predict": 1, "cot": 1, "r2p": 0, "tuned": 1, "compiled": 1, "cot:vote": 1}

    given = report_of_run(tmp_path / "given", "--trials", 3, "--temperature", 0.5)
    assert given["tuning"]["baselines"] == {"cot:vote": {"chains": given["tuning"]["baselines"]["cot:vote"]["chains"]}}
    assert not any("temperature" in trial["setting"] for trial in given["tuning"]["trials"])


def report_of_run(out, *options):
    result = run(*TUNE, *options, "--output", out)
    assert result.exit_code == 0, result.output + result.stderr
    return report_of(out)


def test_resumed_search_repeats_no_answer(engine, tmp_path):
    out = tmp_path / "run"
    options = (*TUNE, "--trials", 6, "--output", out, "--no-cache")
    assert run(*options).exit_code == 0
    before, calls = report_of(out), len(engine.requests)
    (out / "report.json").unlink()
    last = sorted((out / "results").glob("tune-*.jsonl"))[-1]
    last.write_text("".join(last.read_text().splitlines(keepends=True)[:-3]))
    result = run(*options, "--resume")
    assert result.exit_code == 0, result.stderr
    assert report_of(out)["tuning"]["winner"] == before["tuning"]["winner"]
    assert 3 <= len(engine.requests) - calls <= 9, "three answers, with their retries"
    (out / "report.json").unlink()
    refused = run(*TUNE, "--trials", 6, "--k", 4, "--output", out, "--resume")
    assert refused.exit_code == 2 and "given" in refused.stderr


def tuned(directory, score, stops=()):
    """Tunes the program of task 2 in a run of its own, with two calls in flight."""
    config, silent = CompileConfig.of(task="lamp2", model="test/x", cache=False), Reporter()
    setup = Setup.of(config.program, config.data, silent)
    with open_run(directory, "compile", {}, {}, config.connect(), silent) as run:
        return run_tuning(Measurer(run, setup, 2, silent), score, 24, stops=stops)


@pytest.mark.parametrize(("most", "winner", "trials"), [(5, "full", 0), (14, "full", 1), (30, "brief", 2)])
def test_limit_between_calls_keeps_the_best_settings(engine, tmp_path, most, winner, trials):
    def limited(request):
        if len(engine.requests) > most:
            raise Stop("no more calls")
        return write(request)

    engine.texts = [limited]
    settings, summary = tuned(tmp_path / "run", composite(TASK), stops=(Stop,))
    assert settings.template == winner and len(summary["trials"]) == trials
    assert summary["stopped"] == "no more calls" and summary["winner"] == str(settings)


def test_tuning_stops_when_the_metric_always_fails(engine, tmp_path):
    score = Composite(SafeMetric(lambda example, prediction: {}["no such user"]))
    with pytest.raises(MetricError, match="fails on all"):
        tuned(tmp_path / "run", score)
    assert len(engine.requests) < 60, "one trial"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--optimizer", "none"], "add --tune"),
        (["--tune", "--trials", 0], "--trials"),
        (["--tune", "--reconcile", "synthesis"], "reads several candidates: 2 or more, not 1"),
        (["--tune", "--retriever", "nothing"], "unknown retriever"),
    ],
)
def test_tuning_errors_are_one_line(options, message, tmp_path):
    result = run("compile", *options, "--output", tmp_path / "run")
    assert result.exit_code == 2 and message in result.stderr and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": "many"}, "settings.k: Input should be a valid integer"),
        ({"k": -1}, "settings.k"),
        ({"candidates": 10**9}, "settings.candidates"),
        ({"depth": 3}, "settings.depth: Extra inputs are not permitted; update r2p-dspy"),
        ({"template": "long"}, "unknown template 'long'; the templates are full, brief"),
        ({"retriever": "google"}, "unknown retriever 'google'"),
        (["k"], "settings"),
    ],
)
def test_invalid_settings_are_named(settings, message, tmp_path):
    path = save_program(build(TASK, START), tmp_path / "program.json", task="lamp2")
    path.write_text(json.dumps({**json.loads(path.read_text()), "settings": settings}))
    with pytest.raises((ConfigError, ArtifactError), match=re.escape(message)) as raised:
        programs.load("lamp2", str(path))
    assert "\n" not in str(raised.value)


def test_program_without_settings_has_defaults(tmp_path):
    path = save_program(build(TASK, START), tmp_path / "program.json", task="lamp2")
    data = json.loads(path.read_text())
    del data["settings"]
    path.write_text(json.dumps(data))
    assert R2PConfig.of(path) == START
    save_program(build(TASK, START), path, settings=R2PConfig(on_unmet="raise").model_dump())
    assert resolve({}, path).on_unmet == "raise" and build(TASK, resolve({}, path)).on_unmet == "raise"
    assert resolve({"on_unmet": "return"}, path).on_unmet == "return", "the command line wins"
    with pytest.raises(ArtifactError, match="does not exist"):
        R2PConfig.of(tmp_path / "nowhere.json")


@pytest.mark.slow
def test_tuning_on_the_pocket_model(tmp_path, monkeypatch):
    monkeypatch.setattr("programs.data.dataset._DEV", 4)
    out = tmp_path / "run"
    options = ("--optimizer", "none", "--limit", 4, "--trials", 3, "--template", "full", "--carrier", "fields")
    result = run("compile", "--tune", *options, "--output", out)
    assert result.exit_code == 0, result.stderr
    tuning = report_of(out)["tuning"]
    assert [trial["settings"]["k"] for trial in tuning["trials"]] == [4, 1, 2]
    assert all(trial["tokens"]["all"] > trial["tokens"]["completion"] > 0 for trial in tuning["trials"])
