"""docs/your-task.md is true: its file, its rows, its commands and its numbers; and own tasks at the command line."""

import json
import re
import shutil
from pathlib import Path

import dspy
import pytest

from programs.data.dataset import DataConfig
from programs.data.jsonl import iter_examples, jsonl
from programs.evaluate.baselines import trivial_baselines
from programs.runs import model as options
from programs.tasks.task import TaskError
from programs.tasks.task_file import task_of
from tests.scripted import STAGES, ScriptedEngine
from tests.test_cli import report_of, run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "your-task.md").read_text().replace("\\\n", "")
BLOCKS = {kind: re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("yaml", "json", "python")}
TASK = "examples/mail/task.yaml"
MAILS = ("--task", TASK, "--data", "examples/mail/mails.jsonl")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the examples, in which runs may be made."""
    shutil.copytree(ROOT / "examples" / "mail", tmp_path / "examples" / "mail")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def writer(request):
    """A model that has the format, and writes the subject of the first item that it sees."""
    prompt = "\n".join(message.text or "" for message in request.messages)
    item = json.loads(re.findall(r'^\{"item": "1".*$', prompt, re.MULTILINE)[-1])
    evidence = json.dumps([{"item": "1", "quote": item["subject"]}])
    preferences = json.dumps([{"statement": "writes so", "items": ["1"]}])
    personal = {"evidence": evidence, "preferences": preferences, "draft": item["subject"], "subject": item["subject"]}
    fields = {"reasoning": "as before", **STAGES, **personal}
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items() if name != "tag")


@pytest.fixture
def served(monkeypatch):
    """In place of a served model, one that is scripted; the pocket model stays what it is."""
    engine, connect = ScriptedEngine(writer), options.connect

    def scripted(model, **options):
        return connect(model, **options) if model == "pocket" else dspy.LM("scripted/mail", engine=engine, cache=False)

    monkeypatch.setattr(options, "connect", scripted)
    return engine


def test_page_shows_the_example_file():
    assert BLOCKS["yaml"] == [(ROOT / TASK).read_text()]


def test_page_row_loads(tmp_path):
    (block,) = BLOCKS["json"]
    (tmp_path / "rows.jsonl").write_text(json.dumps(json.loads(block)))
    (example,) = iter_examples(task_of(str(ROOT / TASK)), tmp_path / "rows.jsonl")
    assert example.user == "ada" and len(example.profile) == 2


def test_page_python_equals_yaml(tmp_path):
    (tmp_path / "task.py").write_text(BLOCKS["python"][0])
    python, yaml = task_of(str(tmp_path / "task.py")), task_of(str(ROOT / TASK))
    assert python.signature.equals(yaml.signature)
    for name in (
        "name",
        "question",
        "answer",
        "fields",
        "metrics",
        "label",
        "labels",
        "threshold",
        "profile",
        "inputs",
    ):
        assert getattr(python, name) == getattr(yaml, name), name


@pytest.mark.parametrize("line", re.findall(r"^Error: task.yaml: (.*)$", PAGE, re.MULTILINE))
def test_page_errors(line, tmp_path):
    wrong, right = re.findall(r"'(\w+)'", line)
    (tmp_path / "task.yaml").write_text(BLOCKS["yaml"][0].replace(right, wrong))
    with pytest.raises(TaskError, match=rf"task.yaml: {re.escape(line)}$"):
        task_of(str(tmp_path / "task.yaml"))


def test_page_baselines():
    task = task_of(str(ROOT / TASK))
    data = jsonl(task, ROOT / "examples" / "mail" / "mails.jsonl", DataConfig(trains=True))
    stated = re.findall(r"similar\s+earlier mail reaches (\.\d+), and the mail itself as its subject (\.\d+)", PAGE)
    baselines = trivial_baselines(task, data.test, data.train)
    assert list(baselines) == ["most_similar", "input"]
    assert stated == [tuple(f"{value:.3f}".lstrip("0") for value in baselines.values())]


def test_page_commands(checkout, served):
    commands = re.findall(r"^python cli\.py (.*)$", PAGE, re.MULTILINE)
    assert [line.split()[0] for line in commands] == ["data", "data", "evaluate", "compile", "evaluate", "predict"]
    for line in commands:
        result = run(*line.split())
        assert result.exit_code == 0, result.output + result.stderr
    first, compiled, second = (
        report_of(checkout / "runs" / name)
        for name in ("evaluate-mail-subjects", "compile-mail-subjects", "evaluate-mail-subjects-2")
    )
    assert first["model"] == "pocket" and first["examples"] == 2 and first["task"] == "mail-subjects"
    for entry in first["programs"].values():  # as the page says
        assert entry["parse_failures"] == {"malformed": 2} and entry["metrics"]["rouge1"]["value"] == 0
    for report in (compiled, second):
        entry = report["programs"]["compiled"]
        assert report["examples"] == 8 and entry["compliance"] == 1 and entry["evidence_validity"] == 1
        assert entry["metrics"]["rouge1"]["value"] > 0 and entry["violations"] == {}
        assert entry["baselines"].keys() == {"most_similar", "input"}
    program = json.loads((checkout / "runs" / "compile-mail-subjects" / "program.json").read_text())
    assert program["task"] == "mail-subjects"
    rows = [json.loads(line) for line in Path("examples/mail/mails.jsonl").read_text().splitlines()]
    answers = [json.loads(line) for line in Path("subjects.jsonl").read_text().splitlines()]
    assert [answer["id"] for answer in answers] == [row["id"] for row in rows]
    for answer, row in zip(answers, rows, strict=True):
        (evidence,) = answer["evidence"]
        (cited,) = (item for item in row["profile"] if item["id"] == evidence["item"])
        assert evidence["quote"] == cited["subject"] == answer["subject"] and answer["violations"] == []


def test_file_checks_guard_the_program(checkout, served):
    path = Path(TASK)
    path.write_text(path.read_text().replace("max_words: 8", "max_words: 1"))
    result = run("evaluate", *MAILS, "--model", "openai/gpt-4o-mini", "--limit", 4, "--output", "run")
    assert result.exit_code == 0, result.stderr
    assert report_of("run")["programs"]["r2p"]["violations"] == {"max_words": 4}
    assert "Shorten the subject to at most 1 words" in "\n".join(served.prompts())


def test_program_of_another_task_is_refused(checkout, served):
    model = ("--model", "openai/gpt-4o-mini", "--limit", 2)
    assert run("compile", *MAILS, *model, "--output", "run").exit_code == 0
    Path("other.yaml").write_text(Path(TASK).read_text().replace("mail-subjects", "mail-titles"))
    other = ("--task", "other.yaml", "--data", "examples/mail/mails.jsonl", "--program", "run/program.json")
    result = run("evaluate", *other, *model)
    assert result.exit_code == 2 and "mail-subjects" in result.stderr and result.stderr.count("\n") == 1


def test_resume_refuses_another_task_file(checkout, served):
    model = ("--model", "openai/gpt-4o-mini", "--limit", 2, "--output", "run")
    assert run("evaluate", *MAILS, *model).exit_code == 0
    (checkout / "run" / "report.json").unlink()
    Path(TASK).write_text(Path(TASK).read_text().replace("Write the", "Find a"))
    result = run("evaluate", *MAILS, *model, "--resume")
    assert result.exit_code == 2 and "another task file (--task)" in result.stderr


def test_ratings_of_another_scale(checkout, monkeypatch):
    text = """\
task: stars
instructions: Choose the rating that this guest would give.
inputs: {remark: what the guest said}
profile: {fields: [remark], label: stars}
answer: {stars: from 0 to 10}
labels: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
metrics: [mae, rmse, accuracy]
"""
    Path("stars.yaml").write_text(text)
    history = [{"id": n, "remark": f"remark {n}", "stars": n} for n in (2, 4)]
    rows = [{"id": n, "remark": f"new {n}", "stars": 10, "user": n, "profile": history} for n in range(8)]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    engine = ScriptedEngine("[[ ## stars ## ]]\n11")
    monkeypatch.setattr(options, "connect", lambda *_, **__: dspy.LM("scripted/no", engine=engine, cache=False))
    result = run("evaluate", "--task", "stars.yaml", "--data", "rows.jsonl", "--output", "run")
    assert result.exit_code == 0, result.stderr
    entry = report_of("run")["programs"]["predict"]
    assert entry["parse_failures"] == {"malformed": 2}
    assert entry["metrics"]["mae"]["value"] == 10, "no answer is as far off as the scale allows"
    assert entry["baselines"]["user_mean"] == 7


@pytest.mark.parametrize("command", ["compile", "evaluate"])
@pytest.mark.parametrize(
    ("why", "arguments", "expected"),
    [
        ("a fault in the file", ("--task", "bad.yaml", *MAILS[2:]), "bad.yaml: line 2: unknown key 'tsak'"),
        ("no such file", ("--task", "nowhere.yaml", *MAILS[2:]), "nowhere.yaml"),
        ("no data", ("--task", TASK), "--data"),
        ("data that is not there", ("--task", TASK, "--data", "nowhere"), "nowhere"),
        ("a folder without rows", ("--task", TASK, "--data", "examples"), "jsonl"),
        ("rows of another task", ("--task", "lamp2", *MAILS[2:]), "line 1, row ada-5: its description is None"),
    ],
)
def test_bad_input_is_one_line(command, why, arguments, expected, checkout):
    Path("bad.yaml").write_text(Path(TASK).read_text().replace("\ntask:", "\ntsak:"))
    result = run(command, *arguments)
    assert result.exit_code == 2 and expected in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert not Path("runs").exists(), "nothing half-written"


def test_python_fault_shows_user_frame(checkout):
    Path("task.py").write_text("import dspy\n1 / 0\n")
    result = run("evaluate", "--task", "task.py", *MAILS[2:])
    assert result.exit_code == 2 and "    1 / 0\n" in result.stderr and "task_file.py" not in result.stderr
    assert result.stderr.splitlines()[-1] == "Error: task.py: line 2: ZeroDivisionError: division by zero"
    assert not Path("runs").exists(), "nothing half-written"
