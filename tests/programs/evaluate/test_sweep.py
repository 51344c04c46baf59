"""The sweep: cells on the same users and items, none measured twice, compared in pairs, in a table and a figure."""

import json
import re
import shutil
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import dspy
import pytest
from dspy.utils.exceptions import LMError
from filelock import FileLock
from matplotlib.image import imread

from metrics.lamp import METRICS
from programs.data.at_hand import folders
from programs.data.dataset import PERSONA_WORLD, personas
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, lamp_files
from programs.evaluate.published import PUBLISHED, comparable
from programs.evaluate.sweep import run_sweep
from programs.runs.configs import EvaluateConfig, SweepConfig
from programs.runs.reporter import Reporter
from programs.tasks import TASKS, lamp2
from programs.ui.console import Console
from programs.ui.sweep_table import print_sweep
from r2p_dspy.engines import weights
from r2p_dspy.errors import RunError
from tests.embedders import hashed
from tests.scripted import ScriptedEngine, tagged
from tests.test_cli import report_of, run

LIMIT = 4
PROGRAMS = ("predict", "cot", "r2p")
GOOD, HALF = "openai/good", "openai/half"
# One of the two right less at every other example: of four draws all may be such (1 of 16 times), or none.
BEHIND = [
    {"k": k, "program": program, "model": HALF, "to": GOOD, "value": -0.5, "low": -1.0, "high": 0.0}
    for k, program in product((0, 2), PROGRAMS)
]
EXAMPLES = personas(lamp2.TASK, seed=0, limit=LIMIT).test


def answer(right):
    """A model that has every format, and is right where `right(number of the example, prompt)` says so."""

    def write(request):
        prompt = "\n".join(message.text or "" for message in request.messages)
        number = next(at for at, example in enumerate(EXAMPLES) if example.description in prompt)
        gold = EXAMPLES[number].tag
        tag = gold if right(number, prompt) else next(label for label in lamp2.LABELS if label != gold)
        return tagged(prompt, tag)

    return write


@pytest.fixture
def models(monkeypatch):
    """Two served models that are scripted: one is always right, one at every other example; their engines by name."""
    engines = {
        GOOD: ScriptedEngine(answer(lambda number, prompt: True)),
        HALF: ScriptedEngine(answer(lambda number, prompt: number % 2 == 0)),
    }

    def connect(model, **options):
        return dspy.LM(f"scripted/{model}", engine=engines[model], cache=False, num_retries=0)

    monkeypatch.setattr("programs.runs.model.connect", connect)
    return engines


def sweep(output, models=(GOOD, HALF), ks=(0, 2), tasks=("lamp2",), resume=False, reporter=None, **options):
    config = SweepConfig.of(tasks=tasks, models=models, ks=ks, limit=LIMIT, num_threads=1, **options)
    return run_sweep(config, output, resume, reporter or Reporter())


def calls(engines):
    return sum(len(engine.requests) for engine in engines.values())


def rows_of(directory):
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("results/*.jsonl")}


def test_cells_are_compared_in_pairs(models, tmp_path):
    report = sweep(tmp_path / "run")
    assert report == report_of(tmp_path / "run")
    result = report["tasks"]["lamp2"]
    cells = {(cell["model"], cell["k"]): cell for cell in result["cells"]}
    assert list(cells) == [(GOOD, 0), (GOOD, 2), (HALF, 0), (HALF, 2)]
    for (model, k), cell in cells.items():
        alone = report_of(tmp_path / "run" / cell["directory"])
        assert cell["programs"] == alone["programs"] and (alone["model"], alone["k"]) == (model, k)
        assert tuple(cell["programs"]) == PROGRAMS
        value = 1.0 if model == GOOD else 0.5
        assert all(entry["metrics"]["accuracy"]["value"] == value for entry in cell["programs"].values())
    assert calls(models) == 4 * len(PROGRAMS) * LIMIT
    assert result["between_models"] == BEHIND
    # Within a model the programs are right at the same examples, so that no draw tells them apart.
    none = {"value": 0.0, "low": 0.0, "high": 0.0}
    pairs = (("cot", "predict"), ("r2p", "predict"), ("r2p", "cot"))
    assert result["between_programs"] == [
        {"k": k, "model": model, "program": program, "to": base, **none}
        for (model, k), (program, base) in product(cells, pairs)
    ]


def test_embedding_model_is_loaded_once(models, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr("programs.tasks.retrievers.embedder", lambda name: loaded.append(name) or hashed)
    report = sweep(tmp_path / "run", retriever="hybrid:loaded/once", retriever_tokens=500)
    assert loaded == ["loaded/once"]
    assert (report["retriever"], report["retriever_tokens"]) == ("hybrid:loaded/once", 500)
    assert [cell["k"] for cell in report["tasks"]["lamp2"]["cells"]] == [0, 2, 0, 2]


def test_all_programs_see_the_same_items(models, tmp_path):
    sweep(tmp_path / "run")

    def items(prompt):
        return [line for line in prompt.splitlines() if line.startswith('{"item": ')]

    by_model = [[items(prompt) for prompt in engine.prompts()] for engine in models.values()]
    assert by_model[0] == by_model[1]
    programs = [by_model[0][at : at + LIMIT] for at in range(0, len(by_model[0]), LIMIT)]
    nothing, two = programs[:3], programs[3:]
    assert nothing == [[[]] * LIMIT] * 3, "at k=0 no history is shown"
    assert two[0] == two[1] == two[2] and all(len(shown) == 2 for shown in two[0])


def test_k0_equals_no_profile_control(models, tmp_path):
    report = sweep(tmp_path / "run", models=[HALF], controls=True)
    programs = report["tasks"]["lamp2"]["cells"][0]["programs"]
    assert programs["r2p"]["violations"] == {} and programs["r2p"]["compliance"] == 1
    assert programs["r2p"]["evidence_validity"] is None, "there is nothing to cite"
    timed = {"seconds": 0, "seconds_per_answer": 0, "latency": {}, "per_correct": {}}
    assert programs["r2p:no_profile"] | timed == programs["r2p"] | timed


@pytest.mark.parametrize("answered", [5, LIMIT * 9])
def test_resumed_sweep_repeats_no_call(models, tmp_path, answered):
    scripts = {name: engine.texts[0] for name, engine in models.items()}

    def unplugged(script):
        def write(request):
            if calls(models) > answered:
                raise RuntimeError("the plug was pulled")
            return script(request)

        return write

    for name, engine in models.items():
        engine.texts = [unplugged(scripts[name])]
    with pytest.raises(LMError, match="plug"):
        sweep(tmp_path / "run")
    assert not (tmp_path / "run" / "report.json").exists()
    kept = rows_of(tmp_path / "run")
    assert sum(text.count("\n") for text in kept.values()) == answered
    for name, engine in models.items():
        engine.texts = [scripts[name]]
    resumed = calls(models)
    report = sweep(tmp_path / "run", resume=True)
    assert calls(models) - resumed == 4 * len(PROGRAMS) * LIMIT - answered
    assert all(rows_of(tmp_path / "run")[name].startswith(text) for name, text in kept.items())
    assert report["tasks"]["lamp2"]["between_models"] == BEHIND


def test_index_links_to_the_page_of_every_cell(models, tmp_path):
    sweep(tmp_path / "run", tasks=("lamp2",))
    index = (tmp_path / "run" / "report.html").read_text()
    links = [unquote(link) for link in re.findall(r'href="([^"#]+)"', index)]
    assert len(links) == 4 and all((tmp_path / "run" / link).is_file() for link in links)
    assert "accuracy against tokens" in index and "majority" in index


def test_resume_refuses_changed_model(models, tmp_path, monkeypatch):
    sweep(tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    before = rows_of(tmp_path / "run")
    changed = dspy.LM("scripted/other", engine=models[GOOD], cache=False)
    monkeypatch.setattr("programs.runs.model.connect", lambda model, **options: changed)
    with pytest.raises(
        RunError, match=r"k0 was .* another model \(--model\): 'scripted/openai/good', not 'scripted/other'"
    ):
        sweep(tmp_path / "run", resume=True)
    assert rows_of(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ks": (0, 1)}, "--k 0 --k 2, not with --k 0 --k 1"),
        ({"models": (GOOD,)}, "not with --model openai/good;"),
        ({"seed": 1}, "--seed 0, not with --seed 1"),
    ],
)
def test_resume_refuses_changed_options(models, tmp_path, changed, said):
    sweep(tmp_path / "run")
    (tmp_path / "run" / "report.json").unlink()
    with pytest.raises(RunError) as caught:
        sweep(tmp_path / "run", resume=True, **changed)
    assert said in str(caught.value)


def test_table_and_figure_per_task(models, tmp_path, capsys):
    report = sweep(tmp_path / "run", reporter=Console())
    print_sweep(report, tmp_path / "run")
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    rows = {tuple(line[1:3]): line[3:-1] for line in lines if len(line) > 4}
    half = "0.500 [0.000, 1.000]"
    assert rows[GOOD, "r2p"] == ["1.000 [1.000, 1.000]"] * 2 + ["5 / 5"]
    assert rows[HALF, "predict"] == [half, half, "5 / 5"]
    assert rows[f"{HALF} − {GOOD}", "cot"][:2] == ["-0.500 [-1.000, +0.000]"] * 2
    assert rows[GOOD, "r2p − cot"][:2] == ["+0.000 [+0.000, +0.000]"] * 2
    baselines = next(line[0] for line in lines if line[0].startswith("trivial baselines (accuracy): "))
    assert all(f"{name} {value:.3f}" in baselines for name, value in report["tasks"]["lamp2"]["baselines"].items())
    picture = imread(tmp_path / "run" / "lamp2.png")
    height, width = picture.shape[:2]
    assert width > 2 * height
    left, right = picture[:, : width // 2, :3], picture[:, width // 2 :, :3]
    for panel in (left, right):  # drawn in colours, not the grey of axes and baselines alone
        assert ((panel.max(-1) - panel.min(-1)) > 0.3).sum() > 500


def test_figures_of_others_only_for_lamp_data(models, tmp_path, capsys):
    lamp_folder(tmp_path / "files", "lamp2")
    report = sweep(tmp_path / "run", data=str(tmp_path / "files"))
    print_sweep(report, tmp_path / "run")
    assert "published for LaMP at k=4: gpt-4o-mini + BM25: accuracy .502, f1 .430" in capsys.readouterr().out
    print_sweep(sweep(tmp_path / "personas"), tmp_path / "personas")
    assert "published" not in capsys.readouterr().out


def lamp_folder(folder, name, role="test", count=LIMIT):
    """A task's dev set in LaMP's format, of personas."""
    folder.mkdir(parents=True)
    questions, outputs = lamp_files(TASKS[name], draw(MAKERS[name], role, count))
    (folder / "dev_questions.json").write_text(json.dumps(questions))
    (folder / "dev_outputs.json").write_text(json.dumps(outputs))


@pytest.mark.parametrize(
    ("task", "split", "source", "sources"),
    [
        ("lamp2", "dev", "lamp/lamp2-user", 2),
        ("lamp2", "test", PERSONA_WORLD, 0),
        ("longlamp-topic", "test", "lamp/longlamp-topic-user", 3),
        ("longlamp-topic", "dev", "posts of another site", 0),
        ("lampqa-art", "test", "lamp/lampqa-art", 0),
        ("commits", "dev", "git:.", 0),
    ],
)
def test_figures_stand_beside_their_own_split(task, split, source, sources):
    assert len(comparable(TASKS[task], split, source)) == sources


def test_published_results_name_known_tasks():
    for by_task in PUBLISHED.values():
        assert set(by_task) <= set(TASKS)
        for figures in by_task.values():
            assert set(figures) <= set(METRICS) and all(0 < value < 1 for value in figures.values())


@pytest.mark.parametrize(
    ("where", "found"),
    [("LaMP_2/new", True), ("anything", True), (".", True), ("too/deep/down", False)],
)
def test_folders_are_found_by_content(tmp_path, where, found):
    lamp_folder(tmp_path / "root" / where / "x" if where == "." else tmp_path / "root" / where, "lamp2")
    assert len(folders(TASKS["lamp2"], tmp_path / "root", tmp_path / "nowhere")) == found
    assert folders(TASKS["lamp3"], tmp_path / "root") == []


@pytest.mark.parametrize("spoiled", ["[" * 100_000, "[]", '{"task": ["LaMP_2"]}', "\udcff"])
def test_folders_skip_invalid_golds(tmp_path, spoiled):
    lamp_folder(tmp_path / "a", "lamp2")
    (tmp_path / "a" / "dev_outputs.json").write_bytes(spoiled.encode(errors="surrogateescape"))
    assert folders(TASKS["lamp2"], tmp_path) == []


def test_tasks_lists_published_results_and_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lamp_folder(tmp_path / "lamp" / "lamp2-time", "lamp2")
    lamp_folder(tmp_path / "data" / "LaMP_3", "lamp3")
    result = run("tasks")
    assert result.exit_code == 0, result.stderr
    shown = " ".join(result.stdout.replace("|", " ").split())
    for said in (*TASKS, "--data lamp/lamp2-time", "--data data/LaMP_3", "gpt-4o-mini + BM25: accuracy .632", "none"):
        assert said in shown, said


def test_several_tasks_share_a_data_directory(models, tmp_path):
    lamp_folder(tmp_path / "files" / "lamp2-user", "lamp2")
    lamp_folder(tmp_path / "files" / "LaMP_1", "lamp1")
    options = {"tasks": ("lamp2", "lamp1"), "data": str(tmp_path / "files")}
    shutil.copytree(tmp_path / "files" / "LaMP_1", tmp_path / "files" / "again")
    with pytest.raises(ValueError, match=r"holds 2 directories with the files of LaMP_1 .*LaMP_1, .*again"):
        sweep(tmp_path / "run", **options)
    shutil.rmtree(tmp_path / "files" / "LaMP_1")
    with pytest.raises(LMError):  # the scripts know films alone
        sweep(tmp_path / "run", **options)
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == ["lamp1", "lamp2"]


def test_skipped_rows_are_named_once(models, tmp_path):
    lamp_folder(tmp_path / "files", "lamp2")
    path = tmp_path / "files" / "dev_outputs.json"
    outputs = json.loads(path.read_text())
    outputs["golds"][0]["output"] = "boring"
    path.write_text(json.dumps(outputs))
    said = []
    teller = Reporter()
    teller.say = said.append
    report = sweep(tmp_path / "run", models=(GOOD,), data=str(tmp_path / "files"), skip_bad=True, reporter=teller)
    flawed = outputs["golds"][0]["id"]
    assert report["tasks"]["lamp2"]["skipped"] == {"dev": [flawed]}
    assert [line for line in said if "left out" in line] == said and len(said) == 1 and flawed in said[0]


TASK_FILE = Path(__file__).parents[3] / "examples" / "mail" / "task.yaml"


@pytest.mark.parametrize(
    ("why", "arguments", "said"),
    [
        ("an unknown second task", ["--task", "lamp2", "--task", "lamp9"], "lamp9"),
        ("a second task without data", ["--task", "lamp2", "--task", "lamp6"], "lamp6"),
        ("no data for several", ["--task", "lamp2", "--task", "lamp3", "--data", "."], "holds 0 directories"),
        ("a task of one's own among several", ["--task", "lamp2", "--task", TASK_FILE, "--data", "."], "holds 0"),
        ("an unknown second model", ["--model", "pocket", "--model", "nonesuch"], "nonesuch"),
        ("a second model that is nowhere", ["--model", "pocket", "--model", "hf:./nowhere"], "nowhere"),
        ("an address, and no model that is served", ["--k", "0", "--k", "1", "--api-base", "http://x"], "api_base"),
        ("a negative k", ["--k", "0", "--k", "-1"], "-1"),
        ("a retriever that knows no k", ["--k", "0", "--k", "1", "--retriever", "all"], "'all'"),
        ("an unknown retriever", ["--k", "0", "--k", "1", "--retriever", "google"], "google"),
        ("a judge of labels", ["--k", "0", "--k", "1", "--judge", "openai/gpt-4o-mini"], "free text"),
        ("no number", ["--k", "0", "--k", "few"], "few"),
        ("no program", ["--k", "0", "--k", "1", "--program", "nowhere.json"], "nowhere.json"),
        ("nothing to resume", ["--k", "0", "--k", "1", "--resume"], "no unfinished sweep run of lamp2"),
    ],
)
def test_bad_sweep_writes_nothing(why, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("sweep", *arguments)
    assert result.exit_code == 2, why
    assert said in result.stderr and result.stderr.count("\n") == 1, why
    assert not any(tmp_path.iterdir()), "nothing half-written"


def test_equally_named_tasks_are_refused(tmp_path, monkeypatch):
    for name in ("a.yaml", "b.yaml"):
        shutil.copy(TASK_FILE, tmp_path / name)
    rows = TASK_FILE.parent / "mails.jsonl"
    monkeypatch.chdir(tmp_path)
    result = run("sweep", "--task", "a.yaml", "--task", "b.yaml", "--data", rows)
    assert result.exit_code == 2 and "mail-subjects" in result.stderr and result.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A model of the pocket model's making, with a layer instead of six and weights that nobody trained."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    directory = tmp_path_factory.mktemp("models") / "small"
    directory.mkdir()
    for path in weights.POCKET.iterdir():
        if path.name.startswith(("tokenizer", "chat_template")):
            shutil.copy(path, directory)
    config = json.loads((weights.POCKET / "config.json").read_text()) | {"num_hidden_layers": 1, "layer_types": None}
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**config))
    model.generation_config.eos_token_id = list(range(config["vocab_size"]))  # or it would not know when to stop
    model.save_pretrained(directory)
    return directory


def test_sweep_command_with_two_models(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "pocket", "--model", f"hf:{small}", "--k", "1", "--k", "0", "--k", "1", "--limit", "2"]
    result = run("sweep", *arguments)
    assert result.exit_code == 0, result.stderr
    directory = Path("runs/sweep-lamp2")
    report = report_of(directory)
    assert report["models"] == {"pocket": "pocket", "hf:small": f"hf:{small}"} and report["ks"] == [0, 1]
    cells = {(cell["model"], cell["k"]): cell for cell in report["tasks"]["lamp2"]["cells"]}
    assert len(cells) == 4 and cells["pocket", 1]["programs"]["r2p"]["compliance"] == 1
    assert cells["hf:small", 1]["programs"]["predict"]["parse_failures"] == {"empty": 2}
    assert cells["hf:small", 1]["lm"] != cells["pocket", 1]["lm"]
    assert (directory / "lamp2.png").read_bytes().startswith(b"\x89PNG")
    for said in ("hf:small", "r2p − cot", "hf:small − pocket", f"hf:small is hf:{small}", str(directory)):
        assert said in result.stdout, said
    again = run("sweep", *arguments, "--output", directory)
    assert again.exit_code == 2 and "finished run" in again.stderr


def test_unreachable_model_keeps_finished_cells(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    out = tmp_path / "run"
    result = run("sweep", "--model", "pocket", "--model", "openai/gpt-4o-mini", "--limit", "1", "--output", out)
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: the language model failed")
    assert "lamp2 · openai/gpt-4o-mini · k=4 predict" in result.stderr, "says whose turn it was"
    assert report_of(out / "lamp2" / "1-pocket" / "k4")["programs"].keys() == set(PROGRAMS)
    assert not (out / "report.json").exists()


@pytest.mark.parametrize(
    ("option", "values"), [("--k", ("1", "4")), ("--task", ("lamp2", "lamp3")), ("--model", ("pocket", "hf:./other"))]
)
@pytest.mark.parametrize(("command", "advice"), [("evaluate", True), ("compile", False)])
def test_repeated_option_is_refused_outside_sweep(tmp_path, monkeypatch, command, advice, option, values):
    monkeypatch.chdir(tmp_path)
    result = run(command, option, values[0], option, values[1])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"{command} takes one {option}, not {' and '.join(values)}" in result.stderr
    assert ("use `python cli.py sweep`" in result.stderr) is advice
    assert not any(tmp_path.iterdir())


def test_stopped_sweep_releases_lock(models, tmp_path):
    models[GOOD].texts = [lambda request: 1 / 0]
    with pytest.raises(LMError) as stopped:  # `stopped` holds the frames of the sweep
        sweep(tmp_path / "run")
    lock = FileLock(tmp_path / "run" / ".lock", timeout=0)
    lock.acquire()
    lock.release()
    assert stopped


def test_repeated_equal_values_evaluate(tmp_path):
    arguments = ["--task", "lamp2", "--task", "lamp2", "--model", "pocket", "--k", "2", "--k", "2", "--limit", "1"]
    result = run("evaluate", *arguments, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    report = report_of(tmp_path / "run")
    assert report["command"] == "evaluate" and report["k"] == 2 and tuple(report["programs"]) == PROGRAMS
    written = ["config.json", "report.html", "report.json", "results", "submissions", "transcripts"]
    assert sorted(path.name for path in (tmp_path / "run").glob("[!.]*")) == written


def test_every_task_has_its_own_default_template():
    config = EvaluateConfig.of(task="longlamp-review", k=3)
    other = config.with_task("lamp2", None)
    assert (config.program.r2p.template, other.program.r2p.template, other.program.r2p.k) == ("outline", "full", 3)
    chosen = EvaluateConfig.of(task="longlamp-review", template="brief").with_task("lamp2", None)
    assert chosen.program.r2p.template == "brief"
