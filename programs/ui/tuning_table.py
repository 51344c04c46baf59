"""A search of settings on the terminal: one row a trial, and what came of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table

from programs.ui.terminal import table as new_table


def print_tuning(out: Terminal, found: Mapping[str, Any]) -> None:
    """The trials as a table, who won and why, and how the winner does on the reported users.

    Args:
        out: where to.
        found: of `tuning_run.summarize`, with `test` of `tuning_run.compared`.
    """
    out.print(_table("tuning: settings on dev", found["trials"], found))
    if found["finals"]:
        out.print(_table("finalists: on dev and train", found["finals"], found))
    out.print("calls and tokens are for each answer; of those within a standard error of the best the cheapest wins")
    if found["stopped"]:
        out.print(f"tuning stopped early: {found['stopped']}", markup=False)
    for name, one in found.get("test", {}).items():
        shares = [f"{100 * share:.0f} % of its {kind} tokens" for kind, share in one["tokens"].items() if share]
        apart = _interval(one["difference"], "+")
        out.print(f"{name}, paired difference to r2p (95 %): {apart}; {', '.join(shares)}", soft_wrap=True)


def _table(title: str, trials: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Table:
    table = new_table(title=title)
    table.add_column("trial", justify="right")
    table.add_column("setting", overflow="fold")
    for column in ("composite (95 %)", "difference to start (95 %)", "calls", "tokens out/all"):
        table.add_column(column, justify="right")
    table.add_column("")
    numbers = [one["setting"] for one in found["trials"]]
    for trial in trials:
        notes = [name for name in ("start", "best", "winner") if trial["setting"] == found[name]]
        notes += ["frontier"] * bool(trial["frontier"])
        notes += [f"given up after {trial['examples']} examples"] * trial["given_up"]
        tokens = trial["tokens"]
        table.add_row(
            str(numbers.index(trial["setting"])),
            escape(trial["setting"]),
            _interval(trial["score"], ""),
            _interval(trial["difference"], "+"),
            f"{trial['calls']:.2f}",
            f"{tokens['completion']:.0f}/{tokens['all']:.0f}",
            ", ".join(notes),
        )
    return table


def _interval(found: Mapping[str, float], sign: str) -> str:
    return f"{found['value']:{sign}.3f} \\[{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
