"""A search of settings on the terminal: one row a trial, and what came of it."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console as Terminal
from rich.markup import escape
from rich.table import Table


def print_tuning(out: Terminal, found: Mapping[str, Any]) -> None:
    """The trials as a table, who won and why, and how the winner does on the reported users.

    Args:
        out: where to.
        found: of `tuning_run.summarize`, with `test` of `tuning_run.compared`.
    """
    table = Table(title="tuning: settings on dev", title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column("setting", overflow="fold")
    for column in ("composite (95 %)", "difference to trial 0 (95 %)", "calls", "tokens out/all"):
        table.add_column(column, justify="right")
    table.add_column("")
    for number, trial in enumerate(found["trials"]):
        notes = [name for name in ("start", "best", "winner") if trial["setting"] == found[name]]
        notes += ["frontier"] * bool(trial["frontier"])
        notes += [f"given up after {trial['examples']} examples"] * trial["given_up"]
        tokens = trial["tokens"]
        table.add_row(
            str(number),
            escape(trial["setting"]),
            _interval(trial["score"], ""),
            _interval(trial["difference"], "+"),
            f"{trial['calls']:.2f}",
            f"{tokens['completion']:.0f}/{tokens['all']:.0f}",
            ", ".join(notes),
        )
    out.print(table)
    out.print("calls and tokens are for each answer; of those within a standard error of the best the cheapest wins")
    if found["stopped"]:
        out.print(f"tuning stopped early: {found['stopped']}", markup=False)
    for name, one in found.get("test", {}).items():
        shares = [f"{100 * share:.0f} % of its {kind} tokens" for kind, share in one["tokens"].items() if share]
        apart = _interval(one["difference"], "+")
        out.print(f"{name}, paired difference to r2p (95 %): {apart}; {', '.join(shares)}", soft_wrap=True)


def _interval(found: Mapping[str, float], sign: str) -> str:
    return f"{found['value']:{sign}.3f} \\[{found['low']:{sign}.3f}, {found['high']:{sign}.3f}]"
