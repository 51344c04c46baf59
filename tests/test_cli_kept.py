"""What the commands keep against a real endpoint: paid answers, and nothing that is secret."""

import json
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from tests.endpoint import Endpoint, Reply
from tests.test_cli import run
from tests.test_cli_endpoints import chat

THREADS, ROWS = 2, 4
LOGIN, SECRET = "ada:s3cr3t-pass@", "s3cr3t"


@pytest.fixture(autouse=True)
def _key(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)


def evaluate(endpoint, *options, address=None):
    arguments = ["--model", "openai/test", "--api-base", address or endpoint.api_base, "--limit", ROWS]
    return run("evaluate", *arguments, "--output", "run", "--num-threads", THREADS, *options)


def predict(endpoint, *options, address=None):
    item = {"id": "m1", "description": "A lighthouse in a storm.", "tag": "comedy"}
    lines = [{"id": n, "user": "ada", "description": f"Film {n}.", "profile": [item]} for n in range(ROWS)]
    Path("rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["--model", "openai/test", "--api-base", address or endpoint.api_base, "--num-threads", THREADS]
    return run("predict", "--input", "rows.jsonl", "--output", "out.jsonl", *arguments, *options)


@pytest.mark.parametrize(("command", "calls"), [(evaluate, 3 * ROWS), (predict, ROWS)])
@pytest.mark.parametrize("paid", [1, 3])
def test_resumed_run_pays_once(command, calls, paid):
    """A key is refused after some calls. When it is valid again, only the missing calls are made."""
    valid, answered = Event(), count(1)

    def reply(body):
        if valid.is_set() or next(answered) <= paid:
            return Reply.text(chat(body))
        return Reply.http_error(401, "revoked")

    with Endpoint(reply) as endpoint:
        stopped = command(endpoint)
        assert stopped.exit_code == 2 and "--resume" in stopped.stderr, stopped.output
        kept = "run/calls" if command is evaluate else "out.calls"
        assert (Path(kept) / "ledger.sqlite").exists()
        valid.set()
        before = endpoint.asked
        result = command(endpoint, "--resume")
        assert result.exit_code == 0, result.output + result.stderr
        assert endpoint.asked - before == calls - paid
    assert not Path(kept).exists(), "a finished run needs no calls, and they are users' texts"


@pytest.mark.parametrize("command", [evaluate, predict])
def test_calls_are_kept_where_the_user_says(command):
    with Endpoint(chat) as endpoint:
        assert command(endpoint, "--no-cache").exit_code == 0
        assert not [*Path().rglob("ledger.sqlite")]
        for path in sorted(Path().rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        assert command(endpoint, "--calls", "mine").exit_code == 0
        assert Path("mine/ledger.sqlite").exists()


@pytest.mark.parametrize("command", [evaluate, predict])
def test_address_with_a_login_is_refused(command):
    """DSPy's client cannot send it, and would name it in its errors."""
    with Endpoint(chat) as endpoint:
        refused = command(endpoint, address=endpoint.api_base.replace("//", f"//{LOGIN}"))
    assert refused.exit_code == 2 and "http://***@127.0.0.1" in refused.stderr
    assert SECRET not in refused.output + refused.stderr and not Path("run").exists() and not Path("out.jsonl").exists()


def test_key_in_an_address_is_written_nowhere():
    with Endpoint(Reply.http_error(401, "who are you?"), Reply.http_error(400, "no")) as endpoint:
        address = f"{endpoint.api_base}?api-version=2&api-key={SECRET}"
        stopped = [evaluate(endpoint, address=address), evaluate(endpoint, "--resume", "--k", 2, address=address)]
    assert [result.exit_code for result in stopped] == [2, 2]
    assert "?api-version=2&api-key=***" in Path("run/config.json").read_text()
    assert not [path for path in Path("run").rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not [result for result in stopped if SECRET in result.output + result.stderr]


@pytest.mark.parametrize("command", [evaluate, predict])
def test_only_the_owner_can_read_a_runs_texts(command):
    with Endpoint(chat) as endpoint:
        assert command(endpoint).exit_code == 0
    files = [path for kind in ("json", "jsonl") for path in Path().rglob(f"*.{kind}") if path.name != "rows.jsonl"]
    assert len(files) > 1 and not [path for path in files if path.stat().st_mode & 0o077]
    assert command is predict or not Path("run").stat().st_mode & 0o077
