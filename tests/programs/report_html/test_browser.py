"""A walk through report.html in Chromium: what is clicked there does what it says, and no text does anything."""

import json
from itertools import pairwise

import pytest

from programs.report_html.page import PAGE
from tests.browser import CONTRAST, OVERLAPS, chromium, missing
from tests.programs.report_html.hostile import ALL, hostile_run
from tests.test_cli import run

sync_api = pytest.importorskip("playwright.sync_api", reason=str(missing()))
pytestmark = [pytest.mark.browser, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    """A run of the pocket model, at a temperature at which it errs now and then."""
    directory = tmp_path_factory.mktemp("pocket") / "run"
    result = run("evaluate", "--limit", "40", "--temperature", "1.5", "--constrain", "off", "--output", directory)
    assert result.exit_code == 0, result.stderr
    return directory


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return hostile_run(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def tab(browser):
    """tab(run's directory) opens its page; at the end, nothing may have gone wrong in it."""
    problems = []

    def start(directory, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        opened = context.new_page()
        address = (directory / PAGE).as_uri()
        opened.on("console", lambda message: problems.append(f"console: {message.text}"))
        opened.on("pageerror", lambda error: problems.append(f"error: {error}"))
        opened.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        opened.on("request", lambda request: request.url != address and problems.append(f"request: {request.url}"))
        opened.goto(address)
        opened.wait_for_selector("#detail .side")
        return opened

    yield start
    for context in browser.contexts:
        context.close()
    assert problems == []


def choose(tab, name, value):
    tab.select_option(f"select[name={name}]", value)
    tab.wait_for_selector("#detail[aria-busy=false]")


def shown(tab):
    """How many examples pass the filters."""
    return int(tab.inner_text("#count").split()[0].replace(",", ""))


def of_report(directory, program):
    rows = (directory / "results" / f"{program}.jsonl").read_bytes().splitlines()
    return [json.loads(row) for row in rows]


def test_filters_show_what_the_rows_say(tab, pocket):
    page = tab(pocket)
    rows = {name: of_report(pocket, name) for name in ("predict", "cot", "r2p")}
    assert shown(page) == 40
    for name, own in rows.items():
        choose(page, "program", name)
        for outcome, expected in (("right", True), ("wrong", False)):
            choose(page, "outcome", outcome)
            assert shown(page) == sum(row["right"] is expected and not row["parse_failure"] for row in own), name
        choose(page, "outcome", "")
    choose(page, "program", "r2p")
    for check in {check for row in rows["r2p"] for check in row["violations_first"]}:
        page.select_option("select[name=check]", label=f"unmet at first: {check}")
        assert shown(page) == sum(check in row["violations_first"] for row in rows["r2p"])
    choose(page, "check", "corrected")
    assert shown(page) == sum(row["interventions"] > 0 for row in rows["r2p"]) > 0, "the pocket model errs here"
    page.click("button[type=reset]")
    assert shown(page) == 40
    page.fill("input[name=user]", rows["r2p"][3]["id"])
    assert shown(page) == 1
    page.fill("input[name=user]", "nobody")
    assert shown(page) == 0 and "No example passes" in page.inner_text("#detail")


def test_one_right_and_one_wrong(tab, pocket):
    page = tab(pocket)
    right, other = ({row["id"]: row["right"] for row in of_report(pocket, name)} for name in ("r2p", "predict"))
    choose(page, "program", "r2p")
    choose(page, "beside", "predict")
    choose(page, "outcome", "differ")
    assert shown(page) == sum(right[each] != other[each] for each in right) > 0
    sides = page.query_selector_all("#detail .side > h3")
    assert [side.inner_text().split()[0] for side in sides] == ["r2p", "predict"]
    assert len({side.query_selector(".state").inner_text() for side in sides}) == 2


def test_example_shows_quotes_corrections_and_prompt(tab, pocket):
    page = tab(pocket)
    choose(page, "program", "r2p")
    choose(page, "beside", "")
    choose(page, "check", "corrected")
    page.wait_for_selector(".fix")
    assert "Corrected here, at " in page.inner_text(".fix b")
    marks = page.eval_on_selector_all("#detail mark", "marks => marks.map(mark => mark.textContent)")
    raw = page.inner_text("#detail .raw")
    assert marks and all(mark in raw for mark in marks)
    assert page.eval_on_selector_all("#detail .item.cited", "items => items.length") >= 1
    assert "user" not in page.eval_on_selector_all(".message b", "names => names.map(name => name.textContent)")
    page.click("text=Show the prompt")
    page.wait_for_selector(".message b")
    assert page.eval_on_selector_all(".message b", "names => names.map(name => name.textContent)") == ["system", "user"]
    assert '{"item": "1"' in page.inner_text(".message:last-of-type .raw")


def test_correction_stands_where_the_stage_was_written_again(tab, pocket):
    page = tab(pocket)
    choose(page, "program", "r2p")
    choose(page, "check", "corrected")
    page.wait_for_selector(".fix")
    following = page.eval_on_selector(".fix", "fix => fix.parentNode.textContent.split(fix.textContent)[1]")
    stage = page.inner_text(".fix b").split(" at ")[1].split(" ")[0]
    assert following.lstrip().startswith(f"[[ ## {stage} ## ]]")


def test_keyboard_walks_the_list(tab, pocket):
    page = tab(pocket)
    page.focus("#list")
    first = page.inner_text("#detail h3")
    page.keyboard.press("ArrowDown")
    sync_api.expect(page.locator("#detail h3").first).not_to_have_text(first)
    assert page.get_attribute("#list", "aria-activedescendant") == "row-1"
    page.keyboard.press("End")
    page.wait_for_selector("#row-39[aria-selected=true]")
    assert page.eval_on_selector_all(".row", "rows => rows.length") < 40, "only what can be seen is drawn"
    page.keyboard.press("Home")
    page.wait_for_selector("#row-0[aria-selected=true]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_colours_and_widths(tab, pocket, scheme, width):
    page = tab(pocket, color_scheme=scheme, viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the page"
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(OVERLAPS) == []
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, colour[4:-1].split(","))) > 380) == (scheme == "light")


def test_every_control_has_a_name(tab, pocket):
    page = tab(pocket)
    controls = "document.querySelectorAll('select, input, button, [role=listbox], [role=img], [role=region]')"
    named = "control.labels?.length || control.textContent.trim() || control.getAttribute('aria-label')"
    unnamed = page.evaluate(f"[...{controls}].filter((control) => !({named})).length")
    assert unnamed == 0
    levels = page.eval_on_selector_all("main h2, main h3, main h4", "all => all.map(h => Number(h.tagName[1]))")
    assert levels[0] == 2 and all(after - before <= 1 for before, after in pairwise(levels))


def test_hostile_texts_stay_texts(tab, hostile):
    page = tab(hostile)
    before = page.evaluate("document.querySelectorAll('script').length")
    elements = set()
    for program in ("r2p", "cot"):
        choose(page, "program", program)
        for number in range(shown(page)):
            page.focus("#list")
            page.keyboard.press("Home" if number == 0 else "ArrowDown")
            page.wait_for_timeout(30)
            for summary in page.query_selector_all("#detail summary"):
                summary.click()
            names = "all => all.map(each => each.localName)"
            elements.update(page.eval_on_selector_all("#detail *, #list *, #filters *", names))
    assert not elements & {"img", "svg", "script", "iframe", "a", "style", "meta"}
    assert page.evaluate("document.querySelectorAll('script').length") == before
    assert page.title().startswith("mail-subjects · evaluate")
    assert "</script><script>document.title='owned'" in page.inner_text("#detail")
    assert ALL.split()[-1] in page.inner_text("#detail") and "\u202e" not in page.inner_text("#detail")
