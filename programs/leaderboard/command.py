"""`python cli.py leaderboard`. Light: `--help` imports this module."""

import sys
from pathlib import Path

import click

from programs.text import one_line
from programs.ui.errors import FAILED_ROWS

_FORMATS = ("html", "md", "csv", "json")


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@click.option("--output", metavar="FILE", help="Write this file; default: leaderboard.html, or another ending.")
@click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="Choose a format; default: by the ending of --output."
)
def leaderboard(runs: tuple[str, ...], output: str | None, form: str | None) -> None:
    """Rank the programs of many runs: one page with a table and a plot for each task.

    RUN is the directory of a run of evaluate, compile, finetune or sweep, its report.json, or a pattern such as
    'runs/*'. Only results of the same examples in the same metric are ranked against each other. A report that cannot
    be read is left out with a line that says why, and the exit code is 3.
    """
    from programs.leaderboard.boards import boards
    from programs.leaderboard.collecting import collect
    from programs.leaderboard.page import page
    from programs.leaderboard.texts import as_csv, as_json, as_markdown
    from r2p_dspy.errors import ConfigError
    from r2p_dspy.files import write_atomic

    chosen = form or (Path(output).suffix.removeprefix(".").lower() if output else "html")
    write = {"html": page, "md": as_markdown, "csv": as_csv, "json": as_json}.get(chosen)
    if write is None:
        raise ConfigError(f"--output {output} says no format; give one with --format ({', '.join(_FORMATS)})")
    reports, left_out = collect(runs)
    for line in left_out:
        click.echo(one_line(f"left out: {line}"), err=True)
    ranked = boards(reports)
    if not ranked:
        raise ConfigError("no report with results is left; give runs that are finished")
    path = Path(output or f"leaderboard.{chosen}")
    write_atomic(path, write(ranked, left_out))
    entries = sum(len(board.entries) for board in ranked)
    click.echo(f"{entries} results of {len({report.run for report in reports})} runs in {len(ranked)} tables: {path}")
    if left_out:
        sys.exit(FAILED_ROWS)
