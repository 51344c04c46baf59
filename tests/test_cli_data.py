"""`data` on the command line, and `--skip-bad`: what a user sees, and the exit code that a script sees."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import cli
from programs.data.personas import MAKERS
from programs.data.personas.world import draw, lamp_files
from programs.tasks import lamp2, lamp4
from tests.lamp import SAMPLES, item, question, write
from tests.web import serve


def run(*arguments):
    return CliRunner().invoke(cli.cli, [str(argument) for argument in arguments])


def folder(path, bad=0):
    """Task 4, of which some dev questions have no text."""
    rows = [question(lamp4.TASK, str(n), f"On {n}.", profile=[item(lamp4.TASK, f"a{n}")]) for n in range(30)]
    for row in rows[:bad]:
        row["input"] = ""
    write(path, lamp4.TASK, rows, {row["id"]: "x" for row in rows})
    return path


@pytest.mark.parametrize(
    "command",
    [[], ["get"], ["from-git"], ["from-mbox"], ["check"], ["show"], ["import"], ["forget"], ["from-feedback"]],
)
def test_every_option_has_help(command):
    result = run("data", *command, "--help")
    assert result.exit_code == 0 and "Usage" in result.stdout
    group = cli.cli.commands["data"]
    for option in group.get_command(None, command[0]).params if command else ():
        assert option.param_type_name == "argument" or option.help, option.name
    commands = {"get", "from-git", "from-mbox", "from-feedback", "check", "show", "import", "forget"}
    assert set(group.list_commands(None)) == commands and "Commands" in run("data").output


def test_clean_folder_passes(tmp_path):
    result = run("data", "check", folder(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "LaMP_4 dev: 30 of 30 rows are good; their profiles hold 30 items, no dates",
        "flaws: none · notes: none",
    ]


def test_flaws_are_listed_and_exit_3(tmp_path):
    folder(tmp_path, bad=25)
    result = run("data", "check", tmp_path)
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    file = tmp_path / "dev_questions.json"
    assert lines[0] == f"{file}: question 0: its input is '', not a text; correct it"
    assert lines[20:] == [
        f"{file}: … 5 more of “malformed”; --all lists them",
        "LaMP_4 dev: 5 of 30 rows are good; their profiles hold 5 items, no dates",
        "flaws: malformed 25 · notes: none",
    ]
    every = run("data", "check", tmp_path, "--all")
    assert every.exit_code == 3 and [f"question {n}:" in every.stdout for n in range(30)] == [True] * 25 + [False] * 5
    assert run("data", "check", tmp_path, "--task", "lamp5").exit_code == 3


def test_strict_counts_notes_as_flaws(tmp_path):
    rows = [question(lamp4.TASK, profile=[item(lamp4.TASK, "a"), item(lamp4.TASK, "b", date="2020")])]
    write(tmp_path, lamp4.TASK, rows, {"1": "x"})
    result = run("data", "check", tmp_path)
    assert result.exit_code == 0 and "note: question 1" in result.stdout and "date missing 1" in result.stdout
    assert run("data", "check", tmp_path, "--strict").exit_code == 3


def test_closed_pipe_is_no_error(tmp_path):
    folder(tmp_path, bad=25)
    command = f"{sys.executable} cli.py data check --all {tmp_path} | head -1"
    done = subprocess.run(command, shell=True, cwd=Path(cli.__file__).parent, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr


def test_show_persona_example():
    result = run("data", "show", "lamp2")
    assert result.exit_code == 0, result.stderr
    assert [
        word for word in ("question", "history: ", "oldest first", "gold", "tag: ") if word not in result.stdout
    ] == []
    again = run("data", "show", "lamp2", "--id", result.stdout.split()[1])
    assert again.stdout == result.stdout
    assert run("data", "show", "lamp2", "--split", "train").stdout != result.stdout


def test_show_folder_example(tmp_path):
    result = run("data", "show", "lamp4", "--data", folder(tmp_path), "--id", 7)
    assert result.exit_code == 0 and "article: On 7." in result.stdout and "headline: x" in result.stdout


MAIL = Path(cli.__file__).parent / "examples" / "mail"


def test_own_task_and_rows(tmp_path):
    task, rows = MAIL / "task.yaml", MAIL / "mails.jsonl"
    shown = run("data", "show", task, "--data", rows, "--id", "ada-5")
    assert shown.exit_code == 0, shown.stderr
    for part in ("question ada-5", "mail: I am away", "item ada-1", "subject: Q: who has", "text: Hello", "gold"):
        assert part in shown.stdout
    checked = run("data", "check", rows, "--task", task)
    count = len(rows.read_text().splitlines())
    assert checked.exit_code == 0, checked.stderr
    assert f"mail-subjects mails: {count} of {count} rows are good" in checked.stdout
    assert checked.stdout.splitlines()[-1] == "flaws: none · notes: none"


def test_flawed_own_rows(tmp_path):
    first = json.loads((MAIL / "mails.jsonl").read_text().splitlines()[0])
    copied = {**first, "id": "copied", "subject": first["profile"][0]["text"]}
    rows = ["{", json.dumps({**first, "mail": None}), json.dumps({**first, "id": "good"}), json.dumps(copied)]
    (tmp_path / "dev.jsonl").write_text("\n".join(rows))
    (tmp_path / "train.jsonl").write_text(json.dumps({**first, "mail": "Another."}))
    task = MAIL / "task.yaml"
    checked = run("data", "check", tmp_path, "--task", task)
    lines = checked.stdout.splitlines()
    assert checked.exit_code == 3
    assert f"{tmp_path / 'dev.jsonl'}: line 1: it is not valid JSON" in lines[0]
    assert f"line 2, row {first['id']}: its mail is None" in lines[1]
    assert "question copied: its gold is in the profile" in lines[2]
    assert "mail-subjects dev: 2 of 4 rows are good" in checked.stdout
    assert "user in two splits 2" in lines[-1] and "gold in the profile 1" in lines[-1]
    assert run("data", "show", task, "--data", tmp_path).stdout.startswith("question good")
    flawed = run("data", "show", task, "--data", tmp_path, "--id", first["id"])
    assert flawed.exit_code == 2 and "its mail is None" in flawed.stderr


@pytest.mark.parametrize(
    ("why", "arguments", "said"),
    [
        ("rows without a task", ["check", str(MAIL / "mails.jsonl")], "give --task"),
        ("an own task without rows", ["show", str(MAIL / "task.yaml")], "give --data"),
        ("an own task with other files", ["show", str(MAIL / "task.yaml"), "--data", "."], "give a file of rows"),
        (
            "no such row",
            ["show", str(MAIL / "task.yaml"), "--data", str(MAIL / "mails.jsonl"), "--id", "x"],
            "no row x",
        ),
        ("an unknown task", ["get", "lamp9", "--split", "time"], "lamp9"),
        ("an unknown split", ["get", "lamp2", "--split", "space"], "space"),
        ("no split", ["get", "lamp2"], "--split"),
        ("a task that needs a licence", ["get", "lamp6", "--split", "time"], "licence"),
        ("a folder that is not there", ["check", "./nowhere"], "nowhere"),
        ("a folder without files", ["check", "."], "train,dev"),
        ("another unknown task", ["check", ".", "--task", "lamp9"], "lamp9"),
        ("a task that has no synthetic data", ["show", "lamp6"], "--data"),
        ("one more unknown task", ["show", "lamp9"], "lamp9"),
        ("no persona", ["show", "lamp2", "--id", "x"], "'x'"),
        ("no command", ["put"], "put"),
    ],
)
def test_bad_input_is_one_line(why, arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("data", *arguments)
    assert result.exit_code == 2, why
    assert said in result.stderr and result.stderr.count("\n") == 1, why
    assert not any(tmp_path.iterdir()), "nothing half-written"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """The files of task 4 by time, as LaMP's site would have them."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("programs.data.lamp.download._WAITS", (0.0,))
    source = tmp_path / "source"
    source.mkdir()
    for split in ("train", "dev"):
        write(source, lamp4.TASK, [question(lamp4.TASK, split)], {split: "Rain"}, split)
    return {f"/time/LaMP_4/{path.name.split('_')[0]}/{path.name}": path.read_bytes() for path in source.iterdir()}


def test_get_downloads_files(site, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with serve(site, drops=[30]) as (address, _):
        monkeypatch.setattr("programs.data.lamp.official.BASE", address)
        result = run("data", "get", "lamp4", "--split", "time")
        assert result.exit_code == 0, result.stderr
        assert "lamp/lamp4-time: 4 files downloaded" in result.stdout and "dev_outputs.json: " in result.stderr
        again = run("data", "get", "lamp4", "--split", "time")
        assert again.exit_code == 0 and "were there before" in again.stdout
    assert run("data", "check", "lamp/lamp4-time").exit_code == 3, "both splits have the same user"


def test_get_without_network_is_one_line(site, tmp_path, monkeypatch):
    with serve({}) as (address, _):
        pass
    monkeypatch.setattr("programs.data.lamp.official.BASE", address)
    result = run("data", "get", "lamp4", "--split", "time", "--output", tmp_path / "out")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert f"{address}/time/LaMP_4/dev/dev_outputs.json" in result.stderr and str(tmp_path / "out") in result.stderr


def test_interrupted_download_is_kept(site, tmp_path):
    out = tmp_path / "out"
    code = "import sys, programs.data.lamp.official as o; o.BASE = sys.argv.pop(); import cli; cli.cli()"
    with serve(site, stops=10) as (address, _):
        command = [sys.executable, "-c", code, "data", "get", "lamp4", "--split", "time", "--output", str(out), address]
        process = subprocess.Popen(
            command,
            cwd=Path(cli.__file__).parent,
            stderr=subprocess.PIPE,
            text=True,
            # Who runs the tests in the background may ignore interrupts, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (out / "train_questions.json.tag").exists():
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "goes on with the same command" in said and "Traceback" not in said
    assert (out / "train_questions.json.part").stat().st_size == 10


def personas(path, spoil):
    """Task 2 in LaMP's format, with one thing changed in dev."""
    for split, role in (("train", "train"), ("dev", "test")):
        questions, outputs = lamp_files(lamp2.TASK, draw(MAKERS["lamp2"], role, 12))
        if split == "dev":
            spoil(questions, outputs)
        (path / f"{split}_questions.json").write_text(json.dumps(questions))
        (path / f"{split}_outputs.json").write_text(json.dumps(outputs))


def test_skip_bad_reports_rows(tmp_path):
    def spoil(questions, outputs):
        questions[0]["id"] = outputs["golds"][0]["id"] = "110"
        questions[0]["input"] = "?"
        outputs["golds"][2]["output"] = "boring"
        third.append(questions[2]["id"])
        questions[3]["profile"], questions[3]["id"] = None, odd
        outputs["golds"][3]["id"] = odd

    third, odd = [], "a\x1b[2J\nb" + "c" * 999
    personas(tmp_path, spoil)
    refused = run("evaluate", "--data", tmp_path, "--output", tmp_path / "run")
    assert refused.exit_code == 2 and refused.stderr.count("\n") == 1
    assert "3 flawed rows: question 110" in refused.stderr and "--skip-bad" in refused.stderr
    result = run("evaluate", "--data", tmp_path, "--skip-bad", "--limit", 2, "--k", 1, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    (line,) = (line for line in result.stderr.splitlines() if "left out" in line)
    assert "dev: 3 flawed rows are left out (110, " in line and line.isprintable() and len(line) < 200
    for name in ("report.json", "config.json"):
        assert json.loads((tmp_path / "run" / name).read_text())["skipped"] == {"dev": ["110", *third, odd]}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real data is not beside this checkout")
@pytest.mark.parametrize("name", ["acl_LaMP5like", "blog18f_LaMP4like"])
def test_real_data_passes(name):
    result = run("data", "check", SAMPLES / name)
    assert result.exit_code == 0 and "flaws: none" in result.stdout


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real data is not beside this checkout")
def test_real_titles(tmp_path):  # real headlines do in test_cli.py
    data, out = SAMPLES / "acl_LaMP5like", tmp_path / "run"
    result = run("evaluate", "--task", "lamp5", "--data", data, "--limit", 1, "--k", 1, "--output", out)
    assert result.exit_code == 0, result.stderr
    report = json.loads((out / "report.json").read_text())
    assert set(report["programs"]["r2p"]["metrics"]) == {"rouge1", "rougeL"} and report["skipped"] == {}
