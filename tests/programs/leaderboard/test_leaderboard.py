"""Leaderboards: what is ranked with what, what is left out and why, and that names stay texts."""

import csv
import io
import json
import re

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs.data.dataset import Data
from programs.leaderboard.boards import boards
from programs.leaderboard.collecting import collect
from programs.leaderboard.page import page
from programs.leaderboard.reports import Report, ReportFile
from programs.runs.provenance import measured_on
from programs.tasks import TASKS
from r2p_dspy import Profile
from tests.programs.leaderboard.made import report, with_value, write
from tests.programs.report_html.hostile import ALL, EVIL
from tests.programs.report_html.test_page import Page
from tests.test_cli import run

BASE = report()
HOSTILE = report(ALL, source=f"=1+1 {ALL}")


def changed(**keys):
    return json.loads(json.dumps(BASE | keys))


def read(tmp_path, *contents):
    """The boards of some reports, and what was left out."""
    runs = [str(write(tmp_path / f"run-{number}", content)) for number, content in enumerate(contents)]
    reports, left_out = collect(runs)
    return boards(reports), left_out


@pytest.mark.parametrize(
    ("metric", "values", "ranks"),
    [
        ("accuracy", [0.5, 0.9, 0.7], {0.9: 1, 0.7: 2, 0.5: 3}),
        ("accuracy", [0.5, 0.9, 0.9], {0.9: 1, 0.5: 3}),
        ("mae", [0.5, 0.9, 0.7], {0.5: 1, 0.7: 2, 0.9: 3}),
        ("of my own", [0.5, 0.9], {0.5: None, 0.9: None}),
    ],
)
def test_ranks_go_by_the_first_metric(tmp_path, metric, values, ranks):
    (board,), _ = read(tmp_path, *(with_value(changed(), metric, value) for value in values))
    of_values = {
        entry.values[board.metric].value: rank for entry, rank in zip(board.entries, board.ranks(), strict=True)
    }
    assert of_values == ranks
    best_first = sorted(values, reverse=metric != "mae")
    assert [entry.values[board.metric].value for entry in board.entries] == best_first


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_rank_is_one_more_than_the_number_of_better_ones(values):
    contents = [Report(**with_value(changed(), "accuracy", value)) for value in values]
    (board,) = boards(ReportFile(content, "run", None, "2026-01-01", "data") for content in contents)
    for entry, rank in zip(board.entries, board.ranks(), strict=True):
        assert rank == 1 + sum(value > entry.values[board.metric].value for value in values)


def test_controls_have_no_rank_and_take_none(tmp_path):
    (board,), _ = read(tmp_path, report(right={"r2p:other_user": 4, "r2p": 3, "predict": 1}))
    assert [entry.program for entry in board.entries] == ["r2p:other_user", "r2p", "predict"]
    assert board.ranks() == [None, 1, 2]


JUDGED = {"lm": "openai/judge", "programs": {"r2p": {"value": 0.5, "low": 0.4, "high": 0.6}}}
LONG = with_value(changed(), "meteor", 0.3)


@pytest.mark.parametrize(
    ("why", "one", "other"),
    [
        ("other examples", {}, {"data_digest": "0" * 16}),
        ("more examples", {}, {"examples": 5}),
        ("users that are other groups of the same rows", {}, {"users": 2}),
        ("METEOR without synonyms", LONG, {**LONG, "metric_data_missing": ["wordnet"]}),
        ("another judge", {"judge": JUDGED}, {"judge": {**JUDGED, "lm": "openai/other"}}),
        ("another task", {}, {"task": "lamp3"}),
        ("another metric", with_value(changed(), "rouge1", 0.5), with_value(changed(), "rougeL", 0.5)),
    ],
)
def test_what_is_not_comparable_stands_apart(tmp_path, why, one, other):
    found, _ = read(tmp_path, changed(**one), changed(**other))
    of_r2p = [[entry.run for entry in board.entries if entry.program == "r2p"] for board in found]
    assert sorted(filter(None, of_r2p)) == [[f"{tmp_path}/run-0"], [f"{tmp_path}/run-1"]], why


@pytest.mark.parametrize(
    "same",
    [{"model": "other"}, {"seed": 9}, {"k": 8}, {"date": "2020-01-01"}, {"data": "a copy"}, {"temperature": None}],
)
def test_what_is_comparable_is_ranked_together(tmp_path, same):
    (board,), left_out = read(tmp_path, BASE, changed(**same))
    assert len(board.entries) == 4 and left_out == [] and board.is_synthetic


def test_judges_points_come_before_coverage_and_after_rouge(tmp_path):
    for metric, first in (("coverage", "judge by openai/judge"), ("rouge1", "rouge1")):
        (board,), _ = read(tmp_path / metric, {**with_value(changed(), metric, 0.2), "judge": JUDGED})
        assert str(board.metric) == first and len(board.measured.metrics) == 2


def test_what_a_program_took_is_for_each_answer(tmp_path):
    (board,), _ = read(tmp_path, changed(programs={"r2p": BASE["programs"]["r2p"] | {"cost_usd": 0.02}}))
    (entry,) = board.entries
    assert (entry.calls, entry.completion_tokens, entry.tokens, entry.cost) == (2.0, 10.0, 110.0, 5.0)
    assert (entry.compliance, entry.evidence_validity, entry.date) == (1.0, 1.0, BASE["date"])
    assert board.measured.users == 4 and {"most_similar", "majority"} <= {known.name for known in board.baselines}


def test_sweep_stands_for_its_cells_and_each_report_counts_once(tmp_path):
    cells = ["lamp2/1-a/k0", "lamp2/2-b/k0"]
    for number, cell in enumerate(cells):
        write(tmp_path / "sweep" / cell, changed(model=f"model-{number}"))
    index = {"command": "sweep", "tasks": {"lamp2": {"cells": [{"directory": cell} for cell in [*cells, "gone"]]}}}
    (tmp_path / "sweep" / "report.json").write_text(json.dumps(index))
    names = [
        str(tmp_path / "sweep"),
        str(tmp_path / "*" / cells[0]),
        str(tmp_path / "sweep" / cells[1] / "report.json"),
    ]
    reports, left_out = collect(names)
    assert [file.report.model for file in reports] == ["model-0", "model-1"]
    assert left_out == [f"{tmp_path}/sweep/gone/report.json is not there"]


def test_fine_tuning_run_has_a_part_for_each_task_and_its_teachers_model(tmp_path):
    part = report("hf:student", right={"student": 1, "student:sft": 3, "teacher": 4})
    for name in ("version", "temperature", "constrain", "floors", "differences"):
        del part[name]  # as `finetune` has it
    tasks = {"lamp2": part, "lamp3": {**part, "task": "lamp3"}}
    found, left_out = read(tmp_path, {"command": "finetune", "teacher": {"model": "openai/large"}, "tasks": tasks})
    assert left_out == [] and [board.measured.task for board in found] == ["lamp2", "lamp3"]
    models = {entry.program: entry.model for entry in found[0].entries}
    assert models == {"teacher": "openai/large", "student:sft": "hf:student", "student": "hf:student"}
    assert found[0].baselines[0].values, "in the first metric"


def test_reports_of_earlier_versions_are_told_apart_by_the_digest_in_their_configs(tmp_path):
    old = {name: value for name, value in BASE.items() if name not in ("date", "users", "data_digest", "floors")}
    for name, digest in (("a", "1"), ("b", "1"), ("c", "2"), ("d", None)):
        directory = write(tmp_path / name, old)
        (directory / "config.json").write_text(json.dumps({"command": "evaluate", "examples": digest}))
    reports, left_out = collect([str(tmp_path / "*")])
    found = boards(reports)
    assert left_out == [] and sorted(len({entry.run for entry in board.entries}) for board in found) == [1, 1, 2]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", file.date) for file in reports)


def test_baselines_of_an_earlier_version_are_no_others(tmp_path):
    """It had them in the first metric alone."""
    old = {name: value for name, value in BASE.items() if name != "floors"}
    (board,), _ = read(tmp_path, old, BASE)
    names = [baseline.name for baseline in board.baselines]
    assert sorted(names) == sorted({*names}) and all(len(baseline.values) == 2 for baseline in board.baselines)


NO_REPORT = "holds no report.json"
FLAWED = {
    "nothing there": (None, "run is not there"),
    "no JSON": ("{", "report.json is no JSON"),
    "half of a number": ('{"command": 1e', "report.json is no JSON"),
    "nested too deep": ("[" * 100_000, "report.json is no JSON"),
    "a list": ("[]", "report.json is no report of a run"),
    "another file": ('{"a": 1}', "report.json is no report of a run"),
    "an earlier version": (
        json.dumps(changed(version="0.0.1", programs={"r2p": {"metrics": {}}})),
        r"report.json is of another version of r2p-dspy \(programs.r2p.metrics: .*\); make the run again",
    ),
    "no program": (json.dumps({"command": "evaluate", "version": "9"}), "of another version of r2p-dspy"),
    "a number that is none": (json.dumps(changed(examples="4")), r"is damaged \(examples: "),
    "infinite": (json.dumps(with_value(changed(), "mae", float("inf"))), "is damaged"),
    "nan": (json.dumps(with_value(changed(), "mae", float("nan"))), "is damaged"),
    "a sweep without cells": (json.dumps({"command": "sweep", "tasks": []}), "of another version"),
    "a fine-tuning run without tasks": (json.dumps({"command": "finetune"}), "of another version"),
}


@pytest.mark.parametrize(("content", "line"), FLAWED.values(), ids=FLAWED)
def test_what_cannot_be_read_is_one_line_and_the_rest_is_ranked(tmp_path, content, line):
    good = write(tmp_path / "good", BASE)
    if content is not None:
        write(tmp_path / "run", content)
    result = run("leaderboard", good, tmp_path / "run", "--output", tmp_path / "board.html")
    assert result.exit_code == 3 and result.stderr.count("\n") == 1
    assert re.search(f"^left out: {tmp_path}/.*{line}", result.stderr), result.stderr
    assert result.stdout == f"2 results of 1 runs in 1 tables: {tmp_path}/board.html\n"
    assert "left out: " in (tmp_path / "board.html").read_text()


def test_directories_without_a_report(tmp_path):
    (tmp_path / "runs" / "begun").mkdir(parents=True)
    (tmp_path / "runs" / "begun" / "config.json").write_text("{}")
    _, left_out = collect([str(tmp_path / "runs"), str(tmp_path / "r?ns" / "*"), str(tmp_path / "no*")])
    assert left_out == [
        f"{tmp_path}/runs holds no report.json; give a run, or '{tmp_path}/runs/*' for the runs in it",
        f"{tmp_path}/runs/begun holds no report.json: the run is not finished; go on with its command and --resume",
        f"{tmp_path}/no* is not there",
    ]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["{run}", "--output", "board.pdf"], "--output board.pdf says no format; give one with --format"),
        (["{run}/gone"], "no report with results is left"),
        (["{run}/**x"], "is no pattern"),
        ([], "Missing argument 'RUN...'"),
        (["{run}", "--format", "pdf"], "'pdf' is not one of 'html', 'md', 'csv', 'json'"),
    ],
)
def test_bad_input(tmp_path, monkeypatch, arguments, error):
    monkeypatch.chdir(tmp_path)
    directory = write(tmp_path / "run", BASE)
    result = run("leaderboard", *(argument.format(run=directory) for argument in arguments))
    assert result.exit_code == 2 and error in result.stderr and not [*tmp_path.glob("*board*")]


class TestFormats:
    @pytest.fixture
    def directory(self, tmp_path):
        return write(tmp_path / "run", HOSTILE)

    @pytest.mark.parametrize("form", ["md", "csv", "json", "html"])
    def test_ending_or_option_chooses(self, directory, tmp_path, form):
        by_ending, by_option = tmp_path / f"board.{form}", tmp_path / "board"
        assert run("leaderboard", directory, "--output", by_ending).exit_code == 0
        assert run("leaderboard", directory, "--output", by_option, "--format", form).exit_code == 0
        assert by_ending.read_text() == by_option.read_text()

    def test_json_has_everything(self, directory, tmp_path):
        run("leaderboard", directory, "--output", tmp_path / "board.json")
        (board,) = json.loads((tmp_path / "board.json").read_text())["boards"]
        assert [entry["rank"] for entry in board["entries"]] == [1, 2] and not board["synthetic"]
        assert board["entries"][0]["model"] == ALL and board["entries"][0]["metrics"]["accuracy"]["value"] == 0.75

    def test_csv_has_a_line_for_each_metric_and_no_formula(self, directory, tmp_path):
        run("leaderboard", directory, "--output", tmp_path / "board.csv")
        lines = [*csv.DictReader(io.StringIO((tmp_path / "board.csv").read_text()))]
        assert [(line["program"], line["metric"], line["rank"]) for line in lines] == [
            ("r2p", "accuracy", "1"), ("r2p", "f1", ""), ("predict", "accuracy", "2"), ("predict", "f1", ""),
        ]  # fmt: skip
        assert lines[0]["data"].startswith("'=1+1") and float(lines[0]["value"]) == 0.75

    def test_markdown_obeys_no_name(self, directory, tmp_path):
        run("leaderboard", directory, "--output", tmp_path / "board.md")
        text = (tmp_path / "board.md").read_text()
        assert "<script" not in text.replace("\\<", "") and "\x1b" not in text and "\u202e" not in text
        table = [line for line in text.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1, "each line has the same cells"


class TestPage:
    def made(self, tmp_path, *contents):
        found, left_out = read(tmp_path, *contents)
        (tmp_path / "board.html").write_text(page(found, left_out))
        return Page(tmp_path / "board.html")

    def test_no_name_becomes_markup(self, tmp_path):
        programs = {f"{name} {number}": BASE["programs"]["r2p"] for number, name in enumerate(EVIL)}
        hostile = changed(model=ALL, lm=ALL, data=ALL, split=ALL, task=ALL, programs=programs, date=ALL)
        shown = self.made(tmp_path, hostile, "{")
        names = {name for name, _ in shown.elements}
        assert not names & {"img", "iframe", "object", "link", "base", "embed", "foreignobject", "use", "a"}
        for name, attributes in shown.elements:
            assert not [key for key in attributes if key.startswith("on") or key in ("src", "href")], (name, attributes)
        assert sum(name == "script" for name, _ in shown.elements) == 1
        assert not any(char in shown.source for char in "\x00\x1b\x7f\x85\u202e\u2066")
        assert all(name.split("\u2028")[0].split("\x00")[0][:5] in shown.text for name in EVIL[:4])

    def test_asks_for_nothing(self, tmp_path):
        shown = self.made(tmp_path, BASE)
        policy = next(attributes["content"] for name, attributes in shown.elements if "http-equiv" in attributes)
        assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "*" not in policy
        assert not re.search(r"https?:|url\(|@import", shown.blocks["style"] + shown.blocks["script"])

    def test_says_what_is_synthetic_and_what_is_apart(self, tmp_path):
        shown = self.made(tmp_path, BASE, changed(data="lamp/LaMP_2", data_digest="f" * 16))
        assert shown.text.count("Synthetic data") == 1 and "persona world (synthetic)" in shown.text
        assert "lamp2, table 2 of 2" in shown.text and "Do not compare one with another" in shown.text
        assert "0.750" in shown.text and "trivial baseline" in shown.text and "f" * 16 in shown.text

    def test_draws_the_best_twenty(self, tmp_path):
        shown = self.made(tmp_path, *(changed(model=f"m{number}", seed=number) for number in range(15)))
        assert "the best 20 of 30" in shown.text and shown.text.count("m14") >= 2


def example(number, **changes):
    known = {"id": str(number), "user": "ann", "description": "x", "tag": "comedy", "profile": Profile(), **changes}
    return dspy.Example(**known)


@pytest.mark.parametrize(
    ("why", "examples", "is_same"),
    [
        ("the same", [example(0), example(1)], True),
        ("another order", [example(1), example(0)], True),
        ("another answer", [example(0), example(1, tag="action")], False),
        ("another question", [example(0), example(1, description="y")], False),
        ("another user", [example(0), example(1, user="bob")], False),
        ("one less", [example(0)], False),
    ],
)
def test_digest_of_the_reported_examples(why, examples, is_same):
    task, data = TASKS["lamp2"], Data([], [], [example(0), example(1)], "here", "test")
    before, after = measured_on(data, task), measured_on(Data(data.test, [], examples, "there", "dev"), task)
    assert (before["data_digest"] == after["data_digest"]) is is_same, why
    assert before["users"] == 1 and after["users"] == len({each.user for each in examples})
    assert before["metric_data_missing"] == []
