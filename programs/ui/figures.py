"""The figures of a run, drawn from its report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def draw(report: Mapping[str, Any], directory: Path) -> None:
    """Draw the figures that belong to a report: of an ablation, of tuning, and of each task of a sweep.

    Args:
        report: of a command.
        directory: the run's, where figures go.
    """
    from programs.ui.plots import plot, plot_sweep, plot_tuning  # which import matplotlib

    if report["command"] == "sweep":
        for name, task in report["tasks"].items():
            plot_sweep(task, directory / f"{name}.png")
    elif "not_runnable" in report:  # an ablation
        plot(report, directory / "ablation.png")
    elif report.get("tuning", {}).get("trials"):
        plot_tuning(report["tuning"], f"{report['task']}, {report['data']}", directory / "tuning.png")
