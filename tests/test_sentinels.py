"""No key stands in what a command leaves, and no user's text outside of the files that say so.

`python -m benchmarks.sentinels` is the long version.
"""

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from benchmarks.sentinels import KEY, TEXTS, campaign, look
from programs.runs.texts import HOLD_TEXTS, holds_texts
from programs.ui.private_logs import keyless_logs, private_logs
from r2p_dspy.engines.keys import without_credentials

ECHO = "400 with the prompt and the key"
CASES = [
    ("predict", "answers"),
    ("predict", f"{ECHO}, now and then"),
    ("predict", "prose"),
    ("evaluate", f"{ECHO}, now and then"),
    ("evaluate", "401 with the key"),
    ("evaluate, verbose", ECHO),
    ("predict, redacted", f"{ECHO}, now and then"),
    ("evaluate, redacted", "answers"),
    ("evaluate, redacted", f"{ECHO}, now and then"),
    ("evaluate, redacted", "prose"),
]


def invoked(arguments):
    result = CliRunner().invoke(cli.cli, arguments)
    assert result.exit_code in (0, 2, 3), result.output + result.stderr
    return result.output + result.stderr


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.mark.parametrize(("command", "reply"), CASES)
def test_nothing_leaks(command, reply, tmp_path):
    [(_, leaks)] = campaign(invoked, [command], [reply], tmp_path)
    assert leaks == []


def test_leaks_are_seen(tmp_path):
    """The search itself finds what it is for, also in a packed call cache."""
    (tmp_path / "config.json").write_text(f"{KEY} {TEXTS['profile']}")
    assert len([*look(tmp_path, TEXTS["gold"], "predict")]) == 3
    [*_] = campaign(invoked, ["predict"], [f"{ECHO}, now and then"], tmp_path)
    failed = next(tmp_path.rglob("answers.failed.jsonl")).read_text()
    assert "the key ***" in failed and KEY not in failed, "the server's words are kept without the key"


def test_call_that_fails_after_the_command_s_error_is_logged_without_the_row(caplog):
    """Threads that are left behind log the row that they asked for."""
    with private_logs():
        pass
    logger = logging.getLogger("dspy.utils.parallelizer")
    with caplog.at_level(logging.ERROR):
        logger.error("Error for Example({'id': '7', 'mail': 'a night in May by the sea'}): refused")
    assert caplog.messages == ["row 7: Error for Example({'id': '7', 'mail': …}): refused"]
    with keyless_logs():
        logger.error("the mail 'a night in May by the sea' and the key %s", KEY)
    assert caplog.messages[-1] == "the mail 'a night in May by the sea' and the key ***"


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_only_the_owner_can_read_files_that_hold_texts(command, tmp_path):
    [*_] = campaign(invoked, [command], [f"{ECHO}, now and then"], tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and holds_texts(str(path.relative_to(tmp_path)))]
    assert {"report.html", "failed.jsonl"} <= {path.name for path in files} or command == "predict"
    assert files and not [path for path in files if path.stat().st_mode & 0o077]


@pytest.mark.parametrize("name", HOLD_TEXTS)
def test_security_page_lists_the_files(name):
    page = Path(cli.__file__).parent / "docs" / "security.md"
    assert f"| `{name}` |" in page.read_text()


@pytest.mark.parametrize(
    ("variable", "value", "masked"),
    [
        ("MY_API_KEY", "abcdefgh-12345", True),
        ("HF_TOKEN", "hf_abcdefgh", True),
        ("DB_PASSWORD", "correct horse", True),
        ("OPENAI_API_KEY", "none", False),
        ("HOME_FOLDER", "~/ada/films/new", False),
    ],
)
def test_secrets_of_the_environment_are_masked(variable, value, masked, monkeypatch):
    monkeypatch.setenv(variable, value)
    assert without_credentials(f"refused: {value}.") == ("refused: ***." if masked else f"refused: {value}.")
