"""Errors at the command line: who is at fault, what is shown, and the exit code."""

import errno
import json

import dspy
import pytest
from click.testing import CliRunner
from dspy.utils.exceptions import LMAuthError, LMError

import cli
from programs.ui import tasks_table
from r2p_dspy.errors import ConfigError, RunError
from tests.scripted import ScriptedEngine, tagged

TASK = '''import dspy
from programs.tasks.task import Task
from r2p_dspy import Assert, Profile


class Title(dspy.Signature):
    """Write a title for the text."""

    profile: Profile = dspy.InputField()
    text: str = dspy.InputField()
    title: str = dspy.OutputField()


def check(inputs, outcome):
    return outcome.no_such_name


{more}
TASK = Task("titles", Title, "text", "title", ("description",), ("rouge1",), checks=(Assert(check),))
'''


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def failing(monkeypatch, error):
    """Let the command `tasks` raise an error, as if its own module had raised it."""
    names = {"error": error}
    exec(compile("def print_tasks(): raise error", tasks_table.__file__, "exec"), names)
    monkeypatch.setattr(tasks_table, "print_tasks", names["print_tasks"])


@pytest.mark.parametrize(
    ("error", "code", "last"),
    [
        (ConfigError("--k must be at least 0"), 2, "Error: --k must be at least 0"),
        (RunError("runs/x holds a finished run"), 2, "Error: runs/x holds a finished run"),
        (LMError("no route", model="m"), 2, "check --model and --api-base, then go on with --resume"),
        (LMAuthError("no key", model="m"), 2, "set its key in the environment"),
        (FileNotFoundError(errno.ENOENT, "No such file", "x.json"), 2, "Error: x.json cannot be used (No such file)"),
        (OSError(errno.ENOSPC, "No space left", "rows.jsonl"), 2, "Error: the disk of rows.jsonl is full"),
        (ConnectionResetError("reset"), 2, "Error: a file or a connection failed"),
        (ModuleNotFoundError("No module named 'ijson'", name="ijson"), 2, "Error: ijson is not installed"),
        (ValueError("not in list"), 1, "This is a fault of r2p-dspy, not yours. Please report it"),
        (KeyError("programs"), 1, "This is a fault of r2p-dspy, not yours. Please report it"),
        (KeyboardInterrupt(), 130, "stopped; the run goes on with the same command and --resume"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_error_exit_code_and_last_line(error, code, last, monkeypatch):
    failing(monkeypatch, error)
    result = run("tasks")
    lines = result.stderr.splitlines()
    assert result.exit_code == code
    assert last in lines[-1]
    if code == 1:
        assert "Traceback" in result.stderr and f"{type(error).__name__}: {error}" in result.stderr
    else:
        assert len(lines) == 1


def test_wrong_command_is_one_line():
    result = run("evalute")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and "evalute" in result.stderr


EVALUATE = ("evaluate", "--data", "rows.jsonl", "--output", "run")
PREDICT = ("predict", "--input", "rows.jsonl", "--output", "out.jsonl")


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs a command on a user's Python task file, whose check fails, with a scripted model."""
    row = {"id": "1", "text": "It rained in May.", "title": "Rain", "user": "ada"}
    row["profile"] = [{"id": "a", "description": "It rains."}]
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({**row, "id": n, "user": n, "text": f"Rain {n}."}) + "\n" for n in range(4))
    )
    monkeypatch.chdir(tmp_path)

    def connect(model, **options):
        engine = ScriptedEngine(
            lambda request: tagged(request.messages[-1].text, "Rain").replace(" tag ##", " title ##")
        )
        return dspy.LM("scripted/x", engine=engine, cache=False, num_retries=0)

    monkeypatch.setattr("programs.runs.model.connect", connect)

    def asked(command, more=""):
        (tmp_path / "titles.py").write_text(TASK.format(more=more))
        return run(*command, "--task", "titles.py", "--model", "openai/x")

    return asked


@pytest.mark.parametrize("command", [EVALUATE, PREDICT], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("more", "frame", "last"),
    [
        ("", "    return outcome.no_such_name", "Error: check 'check' failed with AttributeError"),
        ("{}['key']", "    {}['key']", "Error: titles.py: line 18: KeyError: 'key'"),
    ],
    ids=["check", "task file"],
)
def test_user_fault_shows_user_frames(ask, command, more, frame, last):
    result = ask(command, more)
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    shown = lines[lines.index("Traceback (in your code):") :]
    assert 'titles.py", line ' in shown[1] and shown[2] == frame
    assert shown[-1].startswith(last) and len([line for line in shown if line.startswith("  File")]) == 1


@pytest.mark.parametrize("command", [EVALUATE, PREDICT], ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("more", "last"),
    [
        ("def check(inputs, outcome): return 0.1", "Error: check 'check' returned float; let it return a bool"),
        ("async def check(inputs, outcome): return True", "check 'check' is async; make it a plain function"),
        ("def check(outcome): return True", "check 'check' takes (outcome); let it take (inputs, outcome)"),
    ],
)
def test_check_that_judges_nothing_is_refused(ask, command, more, last):
    result = ask(command, more)
    assert result.exit_code == 2 and last in result.stderr.splitlines()[-1]


def test_predict_fails_rows_of_unmet_asserts_if_told(ask, tmp_path):
    never = "def check(inputs, outcome): return False, 'Never.'"
    assert ask(PREDICT, never).exit_code == 0
    answers = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [[verdict["check"] for verdict in answer["violations"]] for answer in answers] == [["check"]] * 4
    result = ask((*PREDICT[:-1], "strict.jsonl", "--on-unmet", "raise"), never)
    assert result.exit_code == 3 and "4 rows: 0 answered in strict.jsonl, 4 failed" in result.output
    failures = [json.loads(line)["error"] for line in (tmp_path / "strict.failed.jsonl").read_text().splitlines()]
    assert all(error.startswith("after 3 attempts the check 'check' still fails: Never.") for error in failures)


def test_user_callback_fault_is_the_users(tmp_path, monkeypatch):
    names = {}
    file = tmp_path / "titles.py"
    file.write_text("def query(text):\n    return text.no_such_method()\n")
    exec(compile(file.read_text(), str(file), "exec"), names)
    monkeypatch.setattr(tasks_table, "print_tasks", lambda: names["query"]("x"))
    result = run("tasks")
    assert result.exit_code == 2 and "    return text.no_such_method()" in result.stderr
    assert f"your code failed in {file}, line 2 (AttributeError" in result.stderr.splitlines()[-1]
