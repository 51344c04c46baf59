"""The command line as a user meets it: real runs on the pocket model, and one clear line for every bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import cli
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, lamp_files
from programs.runs.directory import default_directory
from programs.tasks import lamp2, lamp4

NAMES = ["predict", "cot", "r2p", "compiled"]
KEYS = {
    "metrics", "baselines", "compliance_first", "compliance", "evidence_validity_first", "evidence_validity",
    "parse_failures", "failed_rows", "violations", "calls", "forward_passes", "tokens", "tokens_per_answer",
    "seconds_per_answer", "cost_usd", "cost_per_correct", "per_correct", "tokens_per_compliant", "interventions",
    "seconds", "latency",
}  # fmt: skip


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def report_of(directory):
    return json.loads((Path(directory) / "report.json").read_text())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A small compile run."""
    directory = tmp_path_factory.mktemp("compiled") / "run"
    result = run("compile", "--limit", 6, "--optimizer", "bootstrap", "--output", directory)
    assert result.exit_code == 0, result.output + result.stderr
    return directory, result


def test_compile_writes_run_and_prints_table(compiled):
    directory, result = compiled
    report = report_of(directory)
    assert list(report["programs"]) == NAMES
    assert report["examples"] == 6 and report["task"] == "lamp2" and report["split"] == "test" and report["k"] == 4
    for name, entry in report["programs"].items():
        assert set(entry) >= KEYS, name
        assert entry["calls"] >= 6 and entry["tokens"]["completion"] > 0, name
        low, value, high = (entry["metrics"]["accuracy"][key] for key in ("low", "value", "high"))
        assert 0 <= low <= value <= high <= 1, name
    assert report["programs"]["predict"]["compliance"] is None
    assert report["programs"]["r2p"]["compliance"] is not None
    assert report["compiling"]["winner"] in ("compiled", "uncompiled")
    assert report["compiling"]["metric"]["weights"]["task"] == 0.7 and "score: task 0.7, structure 0.1" in result.stdout
    assert (directory / "program.json").exists()
    assert all(name in result.stdout for name in NAMES)


def test_show_and_compare_programs(compiled):
    directory, _ = compiled
    result = run("show", directory)
    assert result.exit_code == 0, result.stderr
    for line in ("program for lamp2", "  model: pocket", "  optimizer: bootstrap", "reason: instructions"):
        assert line in result.stdout.splitlines(), line
    assert result.stdout == run("show", directory / "program.json").stdout
    changed = run("show", "lamp2", directory)
    assert changed.exit_code == 0 and "+ model: pocket" in changed.stdout.splitlines()
    assert run("show", directory, directory).stdout == "instructions, fields and demos are the same\n"


@pytest.mark.parametrize(
    ("why", "arguments", "said"),
    [
        ("nothing", [], "PROGRAM"),
        ("what is not there", ["nowhere.json"], "nowhere.json does not exist"),
        ("a task that is none", ["lamp9"], "lamp9 does not exist"),
        ("a folder that is no run", ["."], "program.json does not exist"),
        ("Python", ["task.py"], "task.py cannot be read as a program"),
        ("a report", ["report.json"], "report.json is no r2p-dspy program"),
        ("a second that is none", ["lamp2", "nowhere.json"], "nowhere.json"),
    ],
)
def test_unreadable_program_is_one_line(why, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text("raise SystemExit('run')")
    (tmp_path / "report.json").write_text("{}")
    result = run("show", *arguments)
    assert result.exit_code == 2 and result.stdout == "", why
    assert said in result.stderr and result.stderr.count("\n") == 1, why


def test_verbose_shows_first_prompts(tmp_path):
    result = run("evaluate", "--limit", 3, "--verbose", "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    for name in ("predict", "cot", "r2p"):
        assert result.stderr.count(f"── {name}: first call") == result.stderr.count(f"── {name} continues") == 1
    assert result.stderr.count("[[ ## verification ## ]]") >= 2, "the prompt and the answer"
    assert "\x1b" not in result.stderr + result.stdout


def test_finished_run_is_not_overwritten(compiled):
    directory, _ = compiled
    result = run("compile", "--limit", 6, "--optimizer", "bootstrap", "--output", directory)
    assert result.exit_code == 2
    assert "finished run" in result.stderr and str(directory) in result.stderr


def test_resumed_run_repeats_no_call(compiled, tmp_path):
    directory, _ = compiled
    before = report_of(directory)
    (directory / "report.json").rename(tmp_path / "report.json")
    try:
        refused = run("compile", "--limit", 6, "--optimizer", "bootstrap", "--output", directory)
        assert refused.exit_code == 2 and "--resume" in refused.stderr
        rows = directory / "results" / "r2p.jsonl"
        rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:4]))  # killed after the fourth example
        result = run("compile", "--limit", 6, "--optimizer", "bootstrap", "--output", directory, "--resume")
        assert result.exit_code == 0, result.stderr
        after = report_of(directory)
        for name in NAMES:
            assert after["programs"][name]["metrics"] == before["programs"][name]["metrics"], name
        assert len(rows.read_text().splitlines()) == 6
    finally:
        (tmp_path / "report.json").replace(directory / "report.json")


def test_evaluate_with_program_and_controls(compiled, tmp_path):
    directory, _ = compiled
    out = tmp_path / "run"
    result = run("evaluate", "--limit", 2, "--program", directory / "program.json", "--controls", "--output", out)
    assert result.exit_code == 0, result.stderr
    assert list(report_of(out)["programs"]) == [*NAMES, "r2p:no_profile", "r2p:other_user", "r2p:random_items"]


@pytest.mark.parametrize(
    "flags, names",
    [
        (["--only", "cot"], ["cot"]),
        (["--only", "r2p", "--only", "predict"], ["predict", "r2p"]),
        (["--ablate", "--only", "r2p:constraints", "--only", "dspy.BestOfN"], ["r2p:constraints", "dspy.BestOfN"]),
        (["--controls", "--only", "r2p:no_profile"], ["r2p:no_profile"]),
    ],
)
def test_only_some_programs(tmp_path, flags, names):
    result = run("evaluate", *flags, "--limit", 2, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    assert list(report_of(tmp_path / "run")["programs"]) == names


def test_only_a_program_that_there_is(tmp_path):
    result = run("evaluate", "--only", "r2p:nothing", "--output", tmp_path / "run")
    assert result.exit_code == 2
    assert "no program 'r2p:nothing' is measured here; there are predict, cot, r2p" in result.stderr
    assert not (tmp_path / "run").exists()


def test_ablation_report_and_figure(tmp_path):
    result = run("evaluate", "--ablate", "--limit", 4, "--temperature", 1, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    report = report_of(tmp_path / "run")
    parts = ["predict", "cot", "r2p:template", "r2p:assertions", "r2p:intervention", "r2p:candidates", "r2p:adaptive"]
    parts += ["r2p:synthesis", "r2p:constraints", "r2p:constraints+intervention"]
    assert list(report["programs"])[:11] == [*parts, "dspy.BestOfN"]
    assert {*report["programs"], *report["not_runnable"]} == {*parts, "dspy.BestOfN", "dspy.Refine", "dspy.MultiChain"}
    assert all(why.startswith("the model cannot answer") for why in report["not_runnable"].values())
    entries = report["programs"]
    assert entries["r2p:candidates"]["calls"] >= 5 * entries["r2p:template"]["calls"] == 20
    assert entries["r2p:synthesis"]["calls"] == entries["r2p:candidates"]["calls"] + 4, "one more for each answer"
    assert entries["r2p:adaptive"]["tokens"]["completion"] < entries["r2p:candidates"]["tokens"]["completion"]
    assert entries["r2p:template"]["tokens_per_compliant"] > 0 and entries["cot"]["tokens_per_compliant"] is None
    for base in ("r2p:template", "r2p:intervention"):
        for other, by_metric in report["differences"][base].items():
            assert set(by_metric) == {"accuracy", "f1"} and other != base
            assert all(interval["low"] <= interval["value"] <= interval["high"] for interval in by_metric.values())
    assert (tmp_path / "run" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert "passes" in result.stdout and "paired difference to r2p:template" in result.stdout


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """A file of six users to predict for, one of whose rows is flawed."""
    file = tmp_path_factory.mktemp("users") / "users.jsonl"
    rows = lamp_files(lamp2.TASK, draw(MAKERS["lamp2"], "test", 6))[0]
    del rows[3]["profile"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_predict_and_resume(compiled, users, tmp_path):
    out, failed = tmp_path / "out.jsonl", tmp_path / "out.failed.jsonl"
    command = ["predict", "--input", users, "--output", out, "--program", compiled[0] / "program.json"]
    result = run(*command)
    assert result.exit_code == 3, result.stderr
    assert result.stdout == f"6 rows: 5 answered in {out}, 1 failed, see {failed}\n"
    rows, whole = [json.loads(line) for line in users.read_text().splitlines()], out.read_text()
    answers = [json.loads(line) for line in whole.splitlines()]
    assert [answer["id"] for answer in answers] == [row["id"] for row in rows if "profile" in row]
    for answer in answers:
        assert answer.keys() == {"id", "tag", "evidence", "violations", "warnings", "reasoning", "completion", "usage"}
        assert answer["usage"]["calls"] > 0
        items = {item["id"]: item for row in rows if row["id"] == answer["id"] for item in row["profile"]}
        assert all(cited["quote"] in items[cited["item"]]["description"] for cited in answer["evidence"])
    assert json.loads(failed.read_text())["line"] == 4

    again = run(*command)
    assert again.exit_code == 2 and "--resume" in again.stderr and again.stderr.count("\n") == 1
    out.write_text("".join(whole.splitlines(keepends=True)[:2]) + '{"id": ')
    failed.write_text("")
    other = run(*command, "--resume", "--k", 8)
    assert other.exit_code == 2 and "--k 4, not with --k 8" in other.stderr
    assert run(*command, "--resume", "--num-threads", 1).exit_code == 3
    assert out.read_text() == whole and json.loads(failed.read_text())["line"] == 4


@pytest.mark.parametrize(
    ("why", "arguments", "said"),
    [
        ("no input", ["--output", "out.jsonl"], "--input"),
        ("no output", ["--input", "users.jsonl"], "--output"),
        ("an input that is not there", ["--input", "nowhere.jsonl", "--output", "out.jsonl"], "nowhere.jsonl"),
        ("an input that is a folder", ["--input", ".", "--output", "out.jsonl"], "no file"),
        ("an empty input", ["--input", "empty.jsonl", "--output", "out.jsonl"], "no rows"),
        ("an output that is the input", ["--input", "users.jsonl", "--output", "users.jsonl"], "there already"),
        ("an output that is a folder", ["--input", "users.jsonl", "--output", "folder"], "there already"),
        ("an output below a file", ["--input", "users.jsonl", "--output", "users.jsonl/out"], "cannot write"),
        ("nothing to resume", ["--input", "users.jsonl", "--output", "out.jsonl", "--resume"], "leave out --resume"),
        ("an unknown task", ["--input", "users.jsonl", "--output", "out.jsonl", "--task", "lamp9"], "lamp9"),
        ("a program that is not there", ["--input", "users.jsonl", "--output", "out", "--program", "x.json"], "x.json"),
    ],
)
def test_predict_refuses_bad_options(why, arguments, said, users, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users.jsonl").write_bytes(users.read_bytes())
    (tmp_path / "empty.jsonl").write_text("\n \n")
    (tmp_path / "folder").mkdir()
    result = run("predict", *arguments)
    assert result.exit_code == 2, why
    assert said in result.stderr and result.stderr.count("\n") == 1, why
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty.jsonl", "folder", "users.jsonl"]


def test_predict_without_key_writes_no_row(users, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    out = tmp_path / "out.jsonl"
    result = run("predict", "--model", "openai/gpt-4o-mini", "--input", users, "--output", out)
    last = result.stderr.splitlines()[-1]
    assert result.exit_code == 2 and last.startswith("Error: the language model failed") and "line 1" in last
    assert out.read_text() == "" and not (tmp_path / "out.failed.jsonl").exists()
    assert run("predict", "--input", users, "--output", out).exit_code == 3, "so another model may begin"


def test_evaluate_ratings(tmp_path):
    result = run("evaluate", "--task", "lamp3", "--limit", 4, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    entry = report_of(tmp_path / "run")["programs"]["r2p"]
    assert set(entry["metrics"]) == {"mae", "rmse"} and "user_mean" in entry["baselines"]


def test_tasks_lists_baselines_and_row_names():
    result = run("tasks")
    assert result.exit_code == 0
    for word in ("lamp2", "lamp3", "lamp4", "accuracy", "mae", "rouge1", "persona world", "description, profile"):
        assert word in result.stdout


@pytest.mark.parametrize("command", [[], *([name] for name in cli.cli.commands)])
def test_every_option_has_help(command):
    result = run(*command, "--help")
    assert result.exit_code == 0 and "Usage" in result.stdout
    for option in cli.cli.commands[command[0]].params if command else []:
        assert isinstance(option, click.Argument) or option.help, option.name


FOLDER = "a folder with LaMP's files"


def write_lamp(folder, change=lambda questions, outputs: None, task=lamp2.TASK):
    """A small folder in LaMP's format, with one thing changed."""
    for split, role in (("train", "train"), ("dev", "test")):
        questions, outputs = lamp_files(task, draw(MAKERS["lamp2"], role, 12))
        if split == "dev":
            change(questions, outputs)
        (folder / f"{split}_questions.json").write_text(json.dumps(questions))
        (folder / f"{split}_outputs.json").write_text(json.dumps(outputs))


def test_evaluate_lamp_files(tmp_path):
    write_lamp(tmp_path)
    result = run("evaluate", "--data", tmp_path, "--limit", 3, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    report = report_of(tmp_path / "run")
    assert report["split"] == "dev" and report["shared_users"] == 0


@pytest.mark.parametrize(
    ("why", "arguments", "said"),
    [
        ("an unknown task", ["--task", "lamp9"], "lamp9"),
        ("an unknown model", ["--model", "nonesuch"], "nonesuch"),
        ("a model that is nowhere", ["--model", "hf:./nowhere"], "nowhere"),
        ("an unknown retriever", ["--retriever", "google"], "google"),
        ("a negative limit", ["--limit", "-1"], "-1"),
        ("no number", ["--limit", "many"], "many"),
        ("a negative k", ["--k", "-2"], "-2"),
        ("no thread", ["--num-threads", "0"], "0"),
        ("a folder that is not there", ["--data", "./nowhere"], "nowhere"),
        ("an unknown option", ["--tsak", "lamp2"], "--tsak"),
        ("nothing to resume", ["--resume", "--output", "./nowhere"], "nowhere"),
        ("a task that has no synthetic data", ["--task", "lamp6"], "--data"),
    ],
)
@pytest.mark.parametrize("command", ["compile", "evaluate"])
def test_bad_options(command, why, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(command, *arguments)
    assert result.exit_code == 2, why
    assert said in result.stderr and result.stderr.count("\n") == 1, why
    assert not any(tmp_path.iterdir()), "nothing half-written"


def test_unknown_optimizer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("compile", "--optimizer", "magic")
    assert result.exit_code == 2 and "magic" in result.stderr and "random" in result.stderr


@pytest.mark.parametrize(
    ("why", "change", "said"),
    [
        ("a question without a gold", lambda q, o: o["golds"].pop(), "gold"),
        ("duplicate ids", lambda q, o: q.append(q[0]), "id"),
        ("an item with no text", lambda q, o: q[2]["profile"][1].update(description=" "), "text"),
        ("a label outside the list", lambda q, o: o["golds"][1].update(output="boring"), "boring"),
        ("another task's outputs", lambda q, o: o.update(task="LaMP_3"), "LaMP_3"),
    ],
)
def test_bad_files(why, change, said, tmp_path):
    write_lamp(tmp_path, change)
    before = sorted(tmp_path.iterdir())
    result = run("evaluate", "--data", tmp_path)
    assert result.exit_code == 2, why
    assert said in result.stderr and result.stderr.count("\n") == 1, why
    assert "dev_" in result.stderr, "names the file"
    assert sorted(tmp_path.iterdir()) == before


def test_skip_bad_leaves_out_flawed_rows(tmp_path):
    def spoil(questions, outputs):
        outputs["golds"][1].update(output="boring")
        outputs["golds"][1]["id"] = questions[1]["id"] = "110"

    write_lamp(tmp_path, spoil)
    refused = run("evaluate", "--data", tmp_path, "--output", tmp_path / "run")
    assert refused.exit_code == 2
    result = run("evaluate", "--data", tmp_path, "--skip", "110", "--limit", 2, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr


def test_too_few_training_examples_cost_nothing(tmp_path):
    write_lamp(tmp_path)
    for kind in ("questions", "outputs"):
        path = tmp_path / f"train_{kind}.json"
        data = json.loads(path.read_text())
        cut = data[:2] if kind == "questions" else {**data, "golds": data["golds"][:2]}
        path.write_text(json.dumps(cut))
    result = run("compile", "--data", tmp_path, "--output", tmp_path / "run")
    assert result.exit_code == 2 and "at least 3 and 1 are needed" in result.stderr
    assert not (tmp_path / "run").exists()


def test_missing_key_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = run("evaluate", "--model", "openai/gpt-4o-mini", "--limit", 1, "--output", tmp_path / "run")
    assert result.exit_code == 2 and result.stderr.splitlines()[-1].startswith("Error: the language model failed")
    assert "Traceback" not in result.stderr


def test_no_command_shows_help():
    result = run()
    assert result.exit_code == 0 and "compile" in result.output and result.output.count("\n") > 8


@pytest.mark.parametrize("kind", ["questions", "outputs"])
def test_file_with_byte_order_mark(kind, tmp_path):
    write_lamp(tmp_path)
    path = tmp_path / f"dev_{kind}.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert run("evaluate", "--data", tmp_path, "--limit", 1, "--output", tmp_path / "run").exit_code == 0


def test_deeply_nested_file_is_one_line(tmp_path):
    write_lamp(tmp_path)
    (tmp_path / "dev_outputs.json").write_text("[" * 200_000)
    result = run("evaluate", "--data", tmp_path)
    assert result.exit_code == 2 and "dev_outputs.json" in result.stderr and result.stderr.count("\n") == 1


def test_truncated_file_is_one_line(tmp_path):
    write_lamp(tmp_path)
    path = tmp_path / "dev_questions.json"
    path.write_text(path.read_text()[:-40])
    result = run("evaluate", "--data", tmp_path)
    assert result.exit_code == 2 and "dev_questions.json" in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("why", "change", "said"),
    [
        ("of another task", {"task": "lamp3"}, "lamp3"),
        ("of a newer format", {"format": 99}, "99"),
        (
            "of other fields",
            {"predictors": {"reason": {"instructions": "", "inputs": {"x": ""}, "outputs": {}}}},
            "input x",
        ),
    ],
)
def test_mismatched_program_is_refused(why, change, said, compiled, tmp_path):
    directory, _ = compiled
    data = json.loads((directory / "program.json").read_text()) | change
    (tmp_path / "program.json").write_text(json.dumps(data))
    result = run("evaluate", "--program", tmp_path / "program.json", "--output", tmp_path / "run")
    assert result.exit_code == 2, why
    assert said in result.stderr and result.stderr.count("\n") == 1, why
    assert not (tmp_path / "run").exists()


def test_unwritable_directory(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = run("evaluate", "--limit", 2, "--output", tmp_path / "file" / "run")
    assert result.exit_code == 2 and "file" in result.stderr and "--output" in result.stderr


REAL = Path(__file__).parents[2] / "shared" / "lamp_format" / "blog18f_LaMP4like"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the real data is not beside this checkout")
def test_real_articles(tmp_path):
    options = ("--limit", 2, "--only", "r2p", "--answer-tokens", 300)  # it babbles on real texts
    result = run("evaluate", "--task", lamp4.TASK.name, "--data", REAL, *options, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    entry = report_of(tmp_path / "run")["programs"]["r2p"]
    assert set(entry["metrics"]) == {"rouge1", "rougeL"} and "most_similar" in entry["baselines"]


def test_default_directory_is_new_each_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.makedirs("runs/evaluate-lamp2")  # noqa: PTH103
    assert default_directory("evaluate", "lamp2", resume=False) == Path("runs/evaluate-lamp2-2")
    assert default_directory("evaluate", "lamp2", resume=True) == Path("runs/evaluate-lamp2")


def test_interrupted_run_can_resume(tmp_path):
    out = tmp_path / "run"
    command = [sys.executable, "cli.py", "evaluate", "--limit", "300", "--output", str(out)]
    process = subprocess.Popen(command, cwd=Path(cli.__file__).parent, stderr=subprocess.PIPE, text=True)
    rows = out / "results" / "predict.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (rows.exists() and len(rows.read_text().splitlines()) > 20):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in said
    assert not (out / "report.json").exists()
    written = [json.loads(line)["id"] for line in rows.read_text().splitlines()]
    assert len(written) == len(set(written)) > 20
