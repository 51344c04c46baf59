"""The tuning of R2P's settings on the terminal: one row per trial, then which setting won and by how much."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from programs.text import one_line
from programs.ui.terminal import Line, interval_text, output, print_lines
from programs.ui.terminal import table as new_table


def print_tuning(tuning: Mapping[str, Any]) -> None:
    """Print the trials and finalists as tables, and what the winner reaches on the reported users.

    Args:
        tuning: the report's `tuning`: of `tuning_run.summarize`, with `test` of `tuning_run.compared`.
    """
    output().print(_table("tuning: settings on dev", tuning["trials"], tuning))
    if tuning["finals"]:
        output().print(_table("finalists: on dev and train", tuning["finals"], tuning))
    lines = ["calls and tokens are per answer; of the settings within a standard error of the best, the cheapest wins"]
    if tuning["stopped"]:
        lines.append(f"tuning stopped early: {tuning['stopped']}")
    for name, result in tuning.get("test", {}).items():
        shares = [f"{100 * share:.0f} % of its {kind} tokens" for kind, share in result["tokens"].items() if share]
        difference = interval_text(result["difference"], "+")
        lines.append(f"{name}, paired difference to r2p (95 %): {difference}; {', '.join(shares)}")
    print_lines(Line(one_line(line)) for line in lines)


def _table(title: str, trials: Sequence[Mapping[str, Any]], tuning: Mapping[str, Any]) -> Table:
    table = new_table(title=title)
    table.add_column("trial", justify="right")
    table.add_column("setting", overflow="fold")
    for column in ("composite (95 %)", "difference to start (95 %)", "calls", "tokens out/all"):
        table.add_column(column, justify="right")
    table.add_column("")
    settings = [trial["setting"] for trial in tuning["trials"]]
    for trial in trials:
        notes = [name for name in ("start", "best", "winner") if trial["setting"] == tuning[name]]
        notes += ["frontier"] * bool(trial["frontier"])
        notes += [f"given up after {trial['examples']} examples"] * trial["given_up"]
        tokens = trial["tokens"]
        table.add_row(
            str(settings.index(trial["setting"])),
            escape(trial["setting"]),
            escape(interval_text(trial["score"])),
            escape(interval_text(trial["difference"], "+")),
            f"{trial['calls']:.2f}",
            f"{tokens['completion']:.0f}/{tokens['all']:.0f}",
            ", ".join(notes),
        )
    return table
