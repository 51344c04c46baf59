"""A walk through a leaderboard in Chromium: filters, sorting, colours, and names that stay texts."""

import pytest

from programs.leaderboard.boards import boards
from programs.leaderboard.collecting import collect
from programs.leaderboard.page import page
from tests.browser import CONTRAST, OVERLAPS, chromium, missing
from tests.programs.leaderboard.made import report, write
from tests.programs.report_html.hostile import ALL

sync_api = pytest.importorskip("playwright.sync_api", reason=str(missing()))
pytestmark = [pytest.mark.browser, pytest.mark.skipif(missing() is not None, reason=str(missing()))]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of 60 runs of lamp2 on two data sets, and one run of hostile names."""
    folder = tmp_path_factory.mktemp("board")
    base = report()
    for number in range(60):
        new = {"model": f"model-{number:02d}", "data_digest": f"{number % 2:016x}"}
        write(folder / f"run-{number}", base | new | ({} if number % 2 else {"data": "lamp/LaMP_2"}))
    write(folder / "hostile", base | {"task": ALL, "model": ALL, "data": ALL})
    reports, left_out = collect([str(folder / "*")])
    (folder / "board.html").write_text(page(boards(reports), [*left_out, ALL]))
    return (folder / "board.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture
def tab(browser, address):
    """tab(options of the browser) opens the page; at the end, nothing may have gone wrong in it."""
    problems = []

    def start(**options):
        opened = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
        opened.on("console", lambda message: problems.append(f"console: {message.text}"))
        opened.on("pageerror", lambda error: problems.append(f"error: {error}"))
        opened.on("dialog", lambda dialog: (problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        opened.on("request", lambda request: request.url != address and problems.append(f"request: {request.url}"))
        opened.goto(address)
        return opened

    yield start
    for context in browser.contexts:
        context.close()
    assert problems == []


def count(tab):
    return tab.inner_text("#count")


def column(tab, place):
    """The visible texts of a column of the first table that is shown."""
    cells = tab.locator("section.one:visible").first.locator(f"tbody tr:visible > :nth-child({place})")
    return cells.evaluate_all("cells => cells.map(cell => cell.firstChild?.textContent ?? '')")


def test_filters_leave_what_was_asked_for_and_the_baselines(tab):
    opened = tab()
    assert count(opened) == "122 of 122 results"
    opened.select_option("select[name=task]", "lamp2")
    opened.select_option("select[name=program]", "r2p")
    assert count(opened) == "60 of 122 results"
    opened.fill("input[name=text]", "MODEL-0")
    assert count(opened) == "10 of 122 results"
    assert {*column(opened, 2)} > {"r2p", "majority"}
    opened.fill("input[name=text]", "nothing")
    assert count(opened) == "0 of 122 results" and opened.locator("section.one:visible").count() == 0
    opened.click("button[type=reset]")
    sync_api.expect(opened.locator("#count")).to_have_text("122 of 122 results")


def test_headers_sort_and_say_so(tab):
    opened = tab()
    opened.select_option("select[name=task]", "lamp2")
    header = opened.locator("section.one:visible thead th").nth(2)
    opened.locator("section.one:visible thead button").nth(2).click()
    models = [model for model in column(opened, 3) if model]
    assert models == sorted(models) and header.get_attribute("aria-sort") == "ascending"
    opened.locator("section.one:visible thead button").nth(2).focus()
    opened.keyboard.press("Enter")
    models = [model for model in column(opened, 3) if model]
    assert models == sorted(models, reverse=True) and header.get_attribute("aria-sort") == "descending"
    opened.locator("section.one:visible thead button").nth(3).click()
    values = [float(value) for value in column(opened, 4) if value not in ("", "\u2013")]
    assert values == sorted(values)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_colours_and_widths(tab, scheme, width):
    opened = tab(color_scheme=scheme, viewport={"width": width, "height": 844})
    assert opened.evaluate("document.documentElement.scrollWidth") == width, "nothing is wider than the page"
    assert opened.evaluate(CONTRAST) == [] and opened.evaluate(OVERLAPS) == []
    colour = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, colour[4:-1].split(","))) > 380) == (scheme == "light")


def test_it_is_whole_without_javascript(tab):
    opened = tab(java_script_enabled=False)
    assert opened.locator("#filters").is_hidden()
    assert opened.locator("tbody tr:not(.baseline):visible").count() == 122


def test_names_do_nothing(tab):
    opened = tab()
    names = {*opened.eval_on_selector_all("body *", "all => all.map(each => each.localName)")}
    assert not names & {"img", "iframe", "a", "style", "meta", "object"}
    assert opened.evaluate("document.querySelectorAll('script').length") == 1
    assert not opened.title().startswith("owned") and "{{ 7*7 }}" in opened.inner_text("main")
