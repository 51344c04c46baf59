"""No text of a user's reaches the terminal below --verbose, whatever fails, and whoever logs it."""

import json
import logging
import warnings

import dspy
import pytest
from click.testing import CliRunner
from dspy.lm15 import AuthError, InvalidRequestError, TransportError
from dspy.utils.exceptions import AdapterParseError

import cli
from programs.ui.console import Console
from programs.ui.private_logs import private_logs, public_message, public_text
from tests.film import Film
from tests.scripted import ScriptedEngine

SECRET = "met her by the lighthouse"
TASK = """
task: titles
instructions: Write a title for the text.
inputs: {text: the text}
profile: {fields: [note], desc: earlier notes}
answer: {title: a short title}
metrics: [rouge1]
"""


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Runs a command on rows with a secret in every text, and a model that answers or fails as told."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "titles.yaml").write_text(TASK)
    rows = [
        {
            "id": f"row-{n}",
            "user": f"user {n}",
            "text": f"{n} I {SECRET}.",
            "title": f"{SECRET} {n}",
            "profile": [{"id": f"a{n}", "note": f"{n} we {SECRET}"}],
        }
        for n in range(16)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(command, failure, *options):
        engine = ScriptedEngine(failure)

        def connect(model, **settings):
            return dspy.LM("scripted/x", engine=engine, cache=False, num_retries=0)

        monkeypatch.setattr("programs.runs.model.connect", connect)
        source = ("--data", "rows.jsonl", "--output", "run")
        if command == "predict":
            source = ("--input", "rows.jsonl", "--output", "out.jsonl")
        result = CliRunner().invoke(cli.cli, [command, "--task", "titles.yaml", "--model", "x/y", *source, *options])
        assert engine.requests and not isinstance(result.exception, AssertionError)
        return result

    return run


def quoting(request):
    """An error that quotes the prompt, as some servers' do."""
    prompt = request.messages[-1].text
    raise InvalidRequestError(f"this prompt is too long: {prompt!r}", provider="x", status=400)


FAILURES = {
    "a missing key": lambda request: AuthError("no key", provider="x", status=401),
    "no server": lambda request: TransportError("connection refused", provider="x"),
    "an error that quotes": quoting,
    "an unreadable answer": lambda request: f"I {SECRET}, so I cannot say.",
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("command", ["compile", "evaluate", "predict"])
def test_commands_show_no_text(ask, command, failure):
    result = ask(command, FAILURES[failure])
    assert result.exit_code in (0, 2, 3)
    assert SECRET not in result.output and "lighthouse" not in result.output


def test_evaluate_names_row_and_reason(ask):
    result = ask("evaluate", lambda request: RuntimeError("no memory"), "--num-threads", "1")
    assert "row row-" in result.stderr and "LMUnexpectedError: " in result.stderr and "no memory" in result.stderr


def test_stopped_run_says_why(ask):
    assert "no key" in ask("evaluate", FAILURES["a missing key"]).stderr


def test_verbose_shows_what_is_logged(ask):
    assert SECRET in ask("evaluate", FAILURES["a missing key"], "--verbose").output


@pytest.mark.parametrize(
    ("why", "text", "shown"),
    [
        ("short names stay", "no model 'gpt-4o'", "no model 'gpt-4o'"),
        ("quoted words go", f"too long: '{SECRET}'", "too long: …"),
        ("in double quotes", f'too long: "{SECRET}"', "too long: …"),
        ("in curly quotes", f"too long: “{SECRET}”", "too long: …"),
        ("with an escaped quote", rf"too long: 'it\'s {SECRET}'", "too long: …"),
        ("a long word", f"no such label '{'x' * 31}'", "no such label …"),
        ("further lines", f"bad request\n{SECRET}", "bad request"),
        ("long messages", "a " * 400, ("a " * 150) + "…"),
        ("what a terminal obeys", "\x1b[2J", "\ufffd[2J"),
    ],
)
def test_public_text(why, text, shown):
    assert public_text(text) == shown


def test_unreadable_answer_is_not_quoted():
    error = AdapterParseError(adapter_name="ChatAdapter", signature=Film, lm_response=SECRET, message=SECRET)
    assert SECRET not in public_message(error)


@pytest.mark.parametrize("name", ["dspy.utils.parallelizer", "LiteLLM", "trl.trainer", "some.other"])
def test_any_library(name, caplog):
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)  # DSPy's loggers hand nothing on to the root's handlers
    try:
        with private_logs():
            logger.error("Failed: '%s'", SECRET)
            try:
                raise ValueError("row 3 has no tag")
            except ValueError:
                logger.exception(f"Error for {dspy.Example(id='r7', text=SECRET)}")
        logger.error("Afterwards: %s", SECRET)
    finally:
        logger.removeHandler(caplog.handler)
    messages = dict.fromkeys(record.getMessage() for record in caplog.records)
    assert list(messages) == ["Failed: …", "row r7: ValueError: row 3 has no tag", f"Afterwards: {SECRET}"]
    assert "Traceback" not in caplog.text


def test_console_restores_logging():
    before = logging.getLogRecordFactory()
    with Console():
        assert logging.getLogRecordFactory() is not before
    assert logging.getLogRecordFactory() is before


def test_pydantic_warnings_quote_nothing(recwarn):
    with private_logs():
        warnings.warn(f"Pydantic serializer warnings:\n  input_value='{SECRET}'", UserWarning, stacklevel=1)
    assert not recwarn.list
