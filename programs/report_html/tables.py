"""The tables of a page, as texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]
NONE = "–"


@dataclass(frozen=True)
class Cell:
    """A cell: its text, a smaller second line, and whether it is a number that stands out, and in which direction."""

    text: str
    second: str = ""
    weight: str = ""  # "up" or "down": an interval that excludes no difference


@dataclass(frozen=True)
class Table:
    """A table with a header row; the first cell of each row names it."""

    caption: str
    header: list[str]
    rows: list[list[Cell]]


def results(report: Report) -> Table:
    """What each program reached and took; trivial baselines stand below."""
    programs = report["programs"]
    metrics = list(next(iter(programs.values()))["metrics"])
    judged = report.get("judge", {}).get("programs", {})
    header = ["program", *metrics, *["judge"] * bool(judged)]
    header += ["complies, first → final", "evidence holds, first → final", "unread", "failed"]
    header += ["calls", "tokens per answer", "seconds per answer", "US$"]
    rows = []
    for name, entry in programs.items():
        intervals = [*entry["metrics"].values(), *([judged[name]] if judged else [])]
        rows.append(
            [
                Cell(name),
                *map(interval, intervals),
                Cell(_shares(entry["compliance_first"], entry["compliance"])),
                Cell(_shares(entry["evidence_validity_first"], entry["evidence_validity"])),
                Cell(_total(entry["parse_failures"]), _causes(entry["parse_failures"])),
                Cell(_total(entry["failed_rows"]), _causes(entry["failed_rows"])),
                Cell(f"{entry['calls']:,}"),
                Cell(f"{entry['tokens_per_answer']:,.0f}"),
                Cell(f"{entry['seconds_per_answer']:.2f}"),
                Cell(NONE if entry["cost_usd"] is None else f"{entry['cost_usd']:,.2f}"),
            ]
        )
    # A report of an earlier version has the baselines in the first metric alone.
    floors = report.get("floors", {metrics[0]: next(iter(programs.values()))["baselines"]})
    blank = [Cell("")] * (len(header) - 1 - len(floors))
    for name in floors[metrics[0]]:
        values = (Cell(f"{lowest[name]:.3f}") for lowest in floors.values())
        rows.append([Cell(name, "trivial baseline"), *values, *blank])
    return Table("Results with 95 % intervals, and what no model is needed for", header, rows)


def differences(report: Report) -> Iterator[Table]:
    """Paired differences between programs, a table for each base."""
    for base, by_program in report.get("differences", {}).items():
        if not by_program:
            continue
        metrics = list(next(iter(by_program.values())))
        rows = [
            [Cell(name), *(interval(values[metric], signed=True) for metric in metrics)]
            for name, values in by_program.items()
        ]
        yield Table(f"Paired difference to {base}, with 95 % intervals", ["program", *metrics], rows)


def violations(report: Report) -> Table | None:
    """How often each check failed at first, and in the final answer; None where no check failed."""
    programs = {name: entry for name, entry in report["programs"].items() if entry["violations_first"]}
    checks = dict.fromkeys(check for entry in programs.values() for check in entry["violations_first"])
    if not checks:
        return None
    rows = [
        [
            Cell(name),
            *(
                Cell(f"{entry['violations_first'].get(check, 0)} → {entry['violations'].get(check, 0)}")
                for check in checks
            ),
        ]
        for name, entry in programs.items()
    ]
    return Table("Answers that fail a check, first → final attempt", ["program", *checks], rows)


def interval(value: Mapping[str, float], *, signed: bool = False) -> Cell:
    """A value above its interval."""
    sign = "+" if signed else ""
    weight = ""
    if signed and value["low"] * value["high"] > 0:
        weight = "up" if value["low"] > 0 else "down"
    return Cell(f"{value['value']:{sign}.3f}", f"{value['low']:{sign}.3f} to {value['high']:{sign}.3f}", weight)


def _shares(first: float | None, final: float | None) -> str:
    return NONE if first is None or final is None else f"{100 * first:.1f} → {100 * final:.1f} %"


def _total(counts: Mapping[str, int]) -> str:
    return f"{sum(counts.values()):,}"


def _causes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in counts.items())
