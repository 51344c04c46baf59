"""How quick a leaderboard is, in Chromium: `python -m benchmarks.leaderboard [--results 1000]`.

The reports are made up, two programs each. The page is written, then opened from its file, as a user does; a filter and
a sort are over when their rows are on the screen.
"""

import statistics
import tempfile
import time
from pathlib import Path

import click

from programs.leaderboard.boards import boards
from programs.leaderboard.collecting import collect
from programs.leaderboard.page import page
from tests.browser import chromium, missing
from tests.programs.leaderboard.made import report, write

_ACT = """async ([kind, value]) => {
    const form = document.getElementById("filters");
    const began = performance.now();
    if (kind === "sort") document.querySelectorAll("thead button")[value].click();
    else {
        form.elements[kind].value = value;
        form.dispatchEvent(new Event("input", { bubbles: true }));
    }
    await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
    return performance.now() - began;
}"""
_ACTS = (
    ("text", "model-1"),
    ("text", ""),
    ("program", "r2p"),
    ("program", ""),
    ("sort", 2),
    ("sort", 3),
    ("sort", 8),
    ("model", "model-7"),
    ("model", ""),
)


@click.command(help=__doc__)
@click.option("--results", default=1000, show_default=True)
@click.option("--opened", default=5, show_default=True, help="Open the page this often.")
def main(results: int, opened: int) -> None:
    if (reason := missing()) is not None:
        print(f"the leaderboard was not measured: {reason}")
        return
    folder, base = Path(tempfile.mkdtemp()), report()
    for number in range(results // 2):
        write(folder / f"run-{number}", base | {"model": f"model-{number}"})
    began = time.monotonic()
    reports, left_out = collect([str(folder / "*")])
    path = folder / "leaderboard.html"
    path.write_text(page(boards(reports), left_out))
    print(f"{results} results: made in {time.monotonic() - began:.1f} s, {path.stat().st_size / 1e6:.2f} MB ({path})")
    with chromium() as browser:
        ready, times = list[float](), list[float]()
        for _ in range(opened):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            began = time.monotonic()
            tab.goto(path.as_uri(), wait_until="commit")
            tab.wait_for_selector("#filters:not([hidden])")
            ready.append(1000 * (time.monotonic() - began))
            times += [tab.evaluate(_ACT, [*act]) for act in _ACTS]
    print(f"ready {statistics.median(ready):.0f} ms (worst {max(ready):.0f})")
    print(f"a filter or a sort {statistics.median(times):.0f} ms (worst {max(times):.0f})")


if __name__ == "__main__":
    main()
