"""Short campaigns: a command whose surroundings fail ends by itself, with a defined outcome and within its bounds."""

import json
import time

import pytest
from click.testing import CliRunner

import cli
from benchmarks import faults as server_faults
from benchmarks.answering import citing, write_rows
from tests.faulty import FAULTS, FaultyServer

# Server faults. `python -m benchmarks.faults` is the long version.

STOPPED, FAILED = 2, 3  # exit codes
DEADLINE = 0.5  # seconds
NO_ANSWER = "no answer within 0.5 s"


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("users") / "users.jsonl", 20)


def invoke(command, server, folder, *options, timeout=DEADLINE):
    """The exit code of a command in this process, its last line, and the seconds that it took."""
    model = ["--model", "openai/m", "--api-base", server.api_base, "--timeout", str(timeout), "--num-threads", "16"]
    began = time.monotonic()
    result = CliRunner().invoke(cli.cli, [command, *options, *model, "--output", str(folder / "out.jsonl")])
    assert "Traceback" not in result.output
    return result.exit_code, result.output.splitlines()[-1], time.monotonic() - began


@pytest.mark.parametrize("fault", ["hang", "500", "html"])  # retries and their pauses count
def test_predict_ends_in_time_if_its_server_fails_every_call(fault, users, tmp_path):
    with FaultyServer(fault) as server:
        code, said, seconds = invoke("predict", server, tmp_path, "--input", str(users))
    assert (code, said[:6]) == (STOPPED, "Error:") and NO_ANSWER in said
    assert seconds < DEADLINE + 10


def test_rows_fail_with_the_words_of_a_server_that_refuses_every_call(users, tmp_path):
    with FaultyServer("400") as server:
        code, said, _ = invoke("predict", server, tmp_path, "--input", str(users), timeout=60)
    failed = [json.loads(line) for line in (tmp_path / "out.failed.jsonl").read_text().splitlines()]
    assert code == FAILED and "20 failed" in said
    assert len(failed) == 20 and all("refused with 400" in row["error"] for row in failed)


@pytest.mark.parametrize("command, options", [("evaluate", ["--limit", "20"]), ("compile", ["--limit", "12"])])
def test_evaluate_and_compile_end_in_time_if_their_server_hangs(command, options, tmp_path):
    with FaultyServer("hang") as server:
        code, said, seconds = invoke(command, server, tmp_path, *options)
    assert (code, said[:6]) == (STOPPED, "Error:") and NO_ANSWER in said
    assert seconds < DEADLINE + 10


@pytest.mark.slow
def test_rows_fail_and_the_run_goes_on_if_a_fifth_of_the_calls_hangs(tmp_path):
    with FaultyServer(lambda number: "hang" if number % 5 == 4 else "", text=citing) as server:
        code, said, _ = invoke("evaluate", server, tmp_path, "--limit", "20", "--max-failures", "0.5", timeout=4)
    assert code == FAILED and "rows failed" in said
    report = json.loads((tmp_path / "out.jsonl/report.json").read_text())
    failed = sum(sum(program["failed_rows"].values()) for program in report["programs"].values())
    assert 10 <= failed <= 16
    assert len(server.requests) < 100  # a call that has had its time is not asked again


def test_endless_responses_stay_within_memory(tmp_path):
    ended = server_faults.run("predict", "endless", 64, tmp_path, deadline=3)
    assert ended.code == STOPPED and ended.megabytes < server_faults.MOST_MB


@pytest.mark.chaos
@pytest.mark.parametrize("command", server_faults.ROWS)
@pytest.mark.parametrize("fault", [*FAULTS, *server_faults.MIXED])
def test_every_fault_within_bounds(fault, command, tmp_path):
    ended = server_faults.run(command, fault, 64, tmp_path, deadline=3)
    assert ended.flaws == (), ended.outcome
