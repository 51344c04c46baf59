"""What report.html holds, and that no text in it becomes anything but text."""

import json
import re
import shutil
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from programs.report_html import opening
from programs.report_html.axes import scale, shortened, spread, text_width
from programs.report_html.charts import Point, plane_chart, rows_chart
from programs.report_html.embedding import content_hash, json_block, packed_block, unpacked
from programs.report_html.examples import FAILED, MISSING, RIGHT, UNANSWERED, WRONG, state_of
from programs.report_html.page import write_page
from programs.runs.directory import read_json
from tests.programs.report_html.hostile import ALL, EVIL, hostile_run
from tests.test_cli import run


class Page(HTMLParser):
    """A page's elements with their attributes, and what its script elements hold, by id."""

    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.elements, self.blocks, self.text, self._script = [], {}, "", None
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.text += data
        else:
            self.blocks[self._script] = self.blocks.get(self._script, "") + data

    @property
    def index(self):
        return json.loads(self.blocks["index"])

    @property
    def transcripts(self):
        return [unpacked(text) for name, text in self.blocks.items() if name.startswith("block-")]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def page(hostile):
    return Page(hostile / "report.html")


def test_no_text_becomes_markup(page):
    names = {name for name, _ in page.elements}
    assert not names & {"img", "iframe", "object", "link", "base", "audio", "video", "embed", "foreignobject", "use"}
    for name, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")], (name, attributes)
        assert name in ("script", "meta", "a", "link") or "src" not in attributes
        assert not attributes.get("href", "#").startswith(("http", "javascript", "//"))
    assert "owned" not in re.sub(r"<script[^>]*>.*?</script>", "", page.source, flags=re.DOTALL)
    assert not any(char in page.source for char in "\x00\x1b\x7f\x85\u2028\u2029\u202e\u2066")


def test_page_needs_nothing_from_elsewhere(page):
    policy = next(attributes["content"] for name, attributes in page.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "*" not in policy
    assert content_hash(page.blocks["script"]) in policy and content_hash(page.blocks["style"]) in policy
    assert not re.search(
        r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//|url\(|@import", page.blocks["style"] + page.source[:3000]
    )


def test_every_text_is_there_as_it_was(page):
    (task,) = page.index
    assert all(ALL in each for each in task["ids"]) and all(ALL in user for user in task["users"])
    examples = [example for block in page.transcripts for example in block["examples"]]
    texts = [text for block in page.transcripts for text in block["texts"]]
    assert len(examples) == len(task["ids"])
    for example in examples:
        assert ALL in example["r2p"]["question"]["mail"]
        assert ALL in example["r2p"]["items"][0]["fields"]["text"]
        assert example["r2p"]["calls"][0]["messages"][0][0] == "system"
    assert any("Write the subject line" in text for text in texts), "prompts"


def test_marks_stand_at_the_quote(page):
    example = page.transcripts[0]["examples"][0]["r2p"]
    cited, invented = example["cited"]
    text = example["items"][0]["fields"]["text"].encode("utf-16-le", "surrogatepass")
    ((start, end),) = cited["marks"]["text"]
    assert text[2 * start : 2 * end].decode("utf-16-le", "surrogatepass").startswith("item ")
    assert not invented["known"] and invented["missing"]


def test_page_is_the_same_when_it_is_made_again(hostile):
    before = (hostile / "report.html").read_bytes()
    (hostile / "report.html").unlink()
    assert write_page(hostile).read_bytes() == before
    assert (hostile / "report.html").stat().st_mode & 0o777 == 0o600


def test_redacted_run_shows_no_text(tmp_path):
    directory = hostile_run(tmp_path, "--redact")
    assert not (directory / "transcripts").exists()
    page = Page(directory / "report.html")
    (task,) = page.index
    assert task["texts"] == task["golds"] == task["titles"] == [] and not page.transcripts
    assert "texts of users were left out" in page.text
    assert "mail 0" not in page.source and "gold 0" not in page.source and "item 0" not in page.source
    rows = [json.loads(line) for line in (directory / "results" / "r2p.jsonl").read_bytes().splitlines()]
    assert rows and all(row["completion"] is None and row["error"] is None for row in rows)


def test_later_finished_and_older_runs_have_pages(hostile, tmp_path):
    """Rows of an earlier version have neither scores nor transcripts; a run may have measured nothing."""
    report = read_json(hostile / "report.json")
    (tmp_path / "results").mkdir()
    (tmp_path / "config.json").write_text("{}")
    rows = [json.loads(line) for line in (hostile / "results" / "r2p.jsonl").read_bytes().splitlines()]
    old = [{key: value for key, value in row.items() if key not in ("score", "right")} for row in rows]
    (tmp_path / "results" / "r2p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    report["programs"] = {"r2p": report["programs"]["r2p"]}
    page = Page(write_page(tmp_path, report))
    assert not page.transcripts and len(page.index[0]["ids"]) == len(old) and not page.index[0]["packed"]
    empty = {**report, "programs": {}, "unmeasured": {"r2p": "the limit"}}
    assert "r2p was not measured: the limit" in Page(write_page(tmp_path, empty)).text


def _cut(lines):
    """As SIGKILL leaves a file, and `--resume` goes on with it: half a line, then the same example again."""
    return b"\n".join([*lines[:-1], lines[-1][: len(lines[-1]) // 2], lines[-1]]) + b"\n"


def _without(*keys, of_calls=()):
    def older(lines):
        kept = []
        for line in map(json.loads, lines):
            calls = [{key: call[key] for key in call if key not in of_calls} for call in line["calls"]]
            whole = {**line, "calls": calls}
            kept.append(json.dumps({key: whole[key] for key in whole if key not in keys}).encode())
        return b"\n".join(kept) + b"\n"

    return older


SPOILT = {
    "half of the last line": (lambda lines: b"\n".join([*lines[:-1], lines[-1][:200]]), 1),
    "half of a line, and the whole one": (_cut, 0),
    "a line twice": (lambda lines: b"\n".join([*lines, lines[0]]) + b"\n", 0),
    "other lines": (lambda lines: b"\n".join([b"7", b"[]", b"{}", b'{"id": []}', *lines]), 0),
    "an empty file": (lambda lines: b"", 2),
    "an earlier version without questions": (_without("question"), 0),
    "an earlier version without most": (_without("question", "outputs", "items", "cited", "calls"), 0),
    "an earlier version with less of calls": (_without(of_calls=("messages", "repeats", "interventions")), 0),
}


@pytest.mark.parametrize(("spoil", "lost"), SPOILT.values(), ids=SPOILT)
def test_pages_of_killed_resumed_and_older_runs(hostile, tmp_path, spoil, lost):
    run = shutil.copytree(hostile, tmp_path / "run")
    for path in (run / "transcripts").iterdir():
        path.write_bytes(spoil(path.read_bytes().splitlines()))
    page, whole = Page(write_page(run)), Page(hostile / "report.html")
    assert page.index[0]["ids"] == whole.index[0]["ids"] and page.index[0]["programs"] == whole.index[0]["programs"]
    shown, known = (
        [example.get("r2p", {}) for block in of.transcripts for example in block["examples"]] for of in (page, whole)
    )
    assert len(known) == 2 and sum(map(bool, shown)) == 2 - lost
    for transcript, full in zip(shown, known):
        assert transcript.get("question", full["question"]) == full["question"]


@pytest.mark.parametrize("gone", ["transcripts/r2p.jsonl", "transcripts", "results/cot.jsonl"])
def test_pages_of_runs_that_lost_files(hostile, tmp_path, gone):
    run = shutil.copytree(hostile, tmp_path / "run")
    shutil.rmtree(run / gone) if (run / gone).is_dir() else (run / gone).unlink()
    (task,) = Page(write_page(run)).index
    assert len(task["ids"]) == 2 and {*task["programs"]} == {"predict", "cot", "r2p"}
    assert task["packed"] is (gone != "transcripts")


def test_doubled_row_counts_once_and_the_latest(hostile, tmp_path):
    """A row that failed is asked again when its run is resumed."""
    run = shutil.copytree(hostile, tmp_path / "run")
    path = run / "results" / "r2p.jsonl"
    first = json.loads(path.read_bytes().splitlines()[0])
    with path.open("ab") as file:
        file.write(json.dumps({**first, "failed": "server", "score": None, "right": None}).encode() + b"\n")
    (task,) = Page(write_page(run)).index
    assert len(task["ids"]) == len(set(task["ids"])) == 2
    assert task["programs"]["r2p"]["state"][task["ids"].index(first["id"])] == FAILED


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (None, MISSING),
        ({"failed": "server", "parse_failure": None}, FAILED),
        ({"failed": None, "parse_failure": "malformed", "answer": None, "gold": "a", "right": False}, UNANSWERED),
        ({"failed": None, "parse_failure": None, "answer": "a", "gold": "a", "right": True}, RIGHT),
        ({"failed": None, "parse_failure": None, "answer": "A", "gold": "a", "right": True}, RIGHT),
        ({"failed": None, "parse_failure": None, "answer": "b", "gold": "a"}, WRONG),
        ({"parse_failure": None, "answer": "a", "gold": "a"}, RIGHT),
    ],
)
def test_what_became_of_a_row(row, state):
    assert state_of(row) == state


class TestEmbedding:
    @pytest.mark.parametrize("evil", EVIL)
    def test_no_text_leaves_its_place(self, evil):
        block = str(json_block([evil]))
        assert json.loads(block) == [evil] and block.isascii() and not set("<>&\n\x00") & set(block)
        assert unpacked(packed_block([evil])) == [evil]

    @given(st.text())
    def test_any_text_comes_back(self, text):
        assert json.loads(str(json_block(text))) == unpacked(packed_block(text)) == text


class TestCharts:
    @given(st.lists(st.floats(0, 300), min_size=1, max_size=14))
    def test_labels_do_not_overlap(self, places):
        spaced = sorted(spread(places, 17, 0, 300))
        assert spaced[0] >= 0 and spaced[-1] <= 300
        assert all(later - sooner >= 16.8 for sooner, later in pairwise(spaced))

    @given(st.lists(st.integers(-50_000, 50_000), min_size=1, max_size=5))
    def test_scales_hold_their_values(self, thousandths):
        values = [number / 1000 for number in thousandths]
        axis = scale(values, 0, 100)
        assert all(-0.1 <= axis(value) <= 100.1 for value in values)
        assert 2 <= len(axis.ticks) <= 12 and all(-0.1 <= place <= 100.1 for place, _ in axis.ticks)

    def test_shares_end_at_one(self):
        assert [text for _, text in scale([0.31, 0.98], 0, 100, within=(0, 1)).ticks][-1] == "1"

    @pytest.mark.parametrize("count", [1, 2, 13])
    def test_all_stays_in_the_picture(self, count):
        names = [f"a program with a very long name, number {number}" for number in range(count)]
        points = [Point(name, 0.9, 0.8, 0.95, "r2p", 10.0 * place) for place, name in enumerate(names)]
        plane = plane_chart("t", "n", "x", points, {"r2p": "R2P"}, (0, 1))
        for chart in (plane, rows_chart("t", "n", points, {"r2p": "R2P"}, (0, 1))):
            for mark in chart.marks:
                assert chart.left <= mark.x <= chart.right and 0 <= mark.y <= chart.bottom
                assert 0 <= mark.label_y <= chart.bottom
            assert chart.legend == [("r2p", "R2P")]
        assert text_width(plane.marks[0].label) + plane.right + 18 <= plane.width

    def test_long_names_end_with_an_ellipsis(self):
        assert shortened("r2p", 100) == "r2p" and shortened("x" * 90, 100).endswith("…")


class TestShow:
    @pytest.fixture(autouse=True)
    def browser(self, monkeypatch):
        """The pages that would have been opened."""
        pages = []
        monkeypatch.setattr(opening.webbrowser, "open", lambda address: pages.append(address) or True)
        return pages

    def test_prints_the_table_and_says_where_the_page_is(self, hostile, browser):
        result = run("show", hostile)
        assert result.exit_code == 0 and "rougeL (95 %)" in result.stdout
        assert result.stderr == f"open in a browser: {(hostile / 'report.html').as_uri()}\n" and browser == []

    @pytest.mark.parametrize(
        ("display", "arguments", "opens"), [(True, [], 1), (True, ["--no-open"], 0), (False, [], 0)]
    )
    def test_opens_it_on_a_terminal_with_a_display(self, hostile, browser, monkeypatch, display, arguments, opens):
        monkeypatch.setattr(opening.sys, "stdout", type("Terminal", (), {"isatty": lambda self: True})())
        for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
            monkeypatch.delenv(name, raising=False)
        if display:
            monkeypatch.setenv("DISPLAY", ":0")
        page = opening.page_of(hostile)
        assert ("--no-open" not in arguments and opening.opened(page)) == bool(opens) and len(browser) == opens

    def test_makes_a_missing_page(self, hostile):
        (hostile / "report.html").unlink()
        assert run("show", hostile).exit_code == 0 and (hostile / "report.html").exists()

    def test_unfinished_run_is_one_line(self, tmp_path):
        (tmp_path / "config.json").write_text("{}")
        result = run("show", tmp_path)
        assert result.exit_code == 2 and result.stderr == (
            f"Error: {tmp_path} holds an unfinished run; finish it with the same command and --resume\n"
        )
