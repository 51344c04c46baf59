"""Size and speed of report.html, in Chromium: `python -m benchmarks.report_html [--examples N]`.

`evaluate` asks a server on this machine that answers at once and cites the first item; the users are persona users
(synthetic). Then the run's page is opened from its file, as a user does. Times are medians of several openings and of
every filter; "to the next frame" is when the filtered list is on the screen.
"""

import statistics
import tempfile
import time
from pathlib import Path

import click
from click.testing import CliRunner

import cli
from benchmarks.answering import citing
from programs.report_html.page import PAGE, write_page
from tests.browser import chromium, missing
from tests.endpoint import Endpoint

_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_FILTER = """async ([name, value]) => {
    const field = document.getElementById("filters").elements[name];
    const began = performance.now();
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    const done = performance.now() - began;
    await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
    return [done, performance.now() - began, document.getElementById("count").textContent];
}"""
_CHOOSE = """async (steps) => {
    const list = document.getElementById("list"), detail = document.getElementById("detail");
    const times = [];
    for (let step = 0; step < steps; step += 1) {
        const began = performance.now();
        const changed = new Promise((done) => new MutationObserver(done).observe(detail, { childList: true }));
        list.dispatchEvent(new KeyboardEvent("keydown", { key: "PageDown", bubbles: true }));
        await changed;
        times.push(performance.now() - began);
    }
    return times;
}"""
_FILTERS = (
    ("outcome", "right"),
    ("outcome", "wrong"),
    ("outcome", "differ"),
    ("outcome", ""),
    ("check", "corrected"),
    ("check", ""),
    ("beside", "predict"),
    ("order", "up"),
    ("user", "nobody"),
    ("user", ""),
)


def make_run(directory: Path, examples: int) -> None:
    """Evaluate plain prediction, chain of thought and R2P."""
    with Endpoint(citing) as endpoint:
        model = ["--model", "openai/m", "--api-base", endpoint.api_base]
        arguments = ["evaluate", "--limit", str(examples), *model, "--output", str(directory)]
        result = CliRunner().invoke(cli.cli, arguments, env={"OPENAI_API_KEY": "none"}, catch_exceptions=False)
    if result.exit_code:
        raise SystemExit(result.output)


@click.command(help=__doc__)
@click.option("--examples", default=2000, show_default=True)
@click.option("--run", "directory", help="Measure the page of this run instead.")
@click.option("--opened", default=5, show_default=True, help="Open the page this often.")
def main(examples: int, directory: str | None, opened: int) -> None:
    if (reason := missing()) is not None:
        print(f"report.html was not measured: {reason}")
        return
    path = Path(directory or Path(tempfile.mkdtemp()) / "run")
    if directory is None:
        make_run(path, examples)
    began = time.monotonic()
    page = write_page(path)
    print(f"made in {time.monotonic() - began:.1f} s, {page.stat().st_size / 1e6:.2f} MB ({path / PAGE})")
    transcripts = sum(file.stat().st_size for file in (path / "transcripts").rglob("*.jsonl"))
    print(f"transcripts of {len([*(path / 'transcripts').rglob('*.jsonl')])} programs: {transcripts / 1e6:.1f} MB")
    with chromium() as browser:
        paints, ready = list[float](), list[float]()
        for _ in range(opened):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            began = time.monotonic()
            tab.goto(page.resolve().as_uri(), wait_until="commit")
            tab.wait_for_selector("#detail .side")
            ready.append(1000 * (time.monotonic() - began))
            paints.append(tab.evaluate(_PAINT))
        print(f"first paint {statistics.median(paints):.0f} ms (worst {max(paints):.0f})")
        print(f"first example shown {statistics.median(ready):.0f} ms (worst {max(ready):.0f})")
        times = []
        for name, value in _FILTERS:
            script, frame, count = tab.evaluate(_FILTER, [name, value])
            times.append(frame)
            print(f"filter {name}={value or 'any'}: {script:.1f} ms, {frame:.1f} ms to the next frame; {count}")
        print(f"filters: median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms")
        chosen = tab.evaluate(_CHOOSE, 30)
        print(f"another example: median {statistics.median(chosen):.1f} ms, worst {max(chosen):.1f} ms")


if __name__ == "__main__":
    main()
