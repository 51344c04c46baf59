"""`show` of a run: its page in the browser, its table on the terminal."""

from pathlib import Path

import click

from programs.report_html.opening import opened, page_of
from programs.runs.directory import read_json
from programs.ui.report_table import print_report
from programs.ui.sweep_table import print_sweep


def show_run(directory: Path, opens: bool) -> bool:
    """Open a run's page, or say where it is, on stderr.

    Then print the run's table to stdout, unless it has a compiled program.

    Args:
        directory: what the user named.
        opens: whether the page may be opened.

    Returns:
        Whether that is all there is to show; else it is no run, or one with a compiled program.

    Raises:
        RunError: for an unfinished run.
    """
    page = page_of(directory)
    if page is None:
        return False
    was_opened = opens and opened(page)
    click.echo(f"{'opened' if was_opened else 'open in a browser:'} {page.resolve().as_uri()}", err=True)
    if (directory / "program.json").is_file():
        return False
    report = read_json(directory / "report.json")
    if report["command"] == "sweep":
        print_sweep(report, directory)
    else:
        for part in report["tasks"].values() if "tasks" in report else (report,):
            print_report(part, directory)
    return True
