"""The figure of an ablation: how good each program is, against what it costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw the task's first metric against completion tokens, as PNG.

    Args:
        report: of an evaluation; each program is a point with its 95 % interval, each floor a dashed line.
        path: where to, written whole.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metric = next(iter(next(iter(report["programs"].values()))["metrics"]))
    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.subplots()
    for name, entry in report["programs"].items():
        found, tokens = entry["metrics"][metric], entry["tokens"]["completion"] / report["examples"]
        ends = [[found["value"] - found["low"]], [found["high"] - found["value"]]]
        marker = "o" if name.startswith("r2p") else "s"
        axes.errorbar(tokens, found["value"], yerr=ends, fmt=marker, capsize=3, label=name)
    figure.legend(loc="outside right upper")  # beside the points, which often lie close together
    floors = next(iter(report["programs"].values()))["floors"]
    for name, value in floors.items():
        axes.axhline(value, color="grey", linestyle="--", linewidth=0.8)
        axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey")
    axes.set_xlabel("completion tokens for each example (thrown-away ones too)")
    axes.set_ylabel(f"{metric} ({'lower' if metric in ('mae', 'rmse') else 'higher'} is better)")
    axes.set_title(f"{report['task']}, {report['data']}, {report['examples']} users, {report['lm']}", fontsize=10)
    part = path.with_name(f".{path.name}.part")
    figure.savefig(part, format="png", dpi=150)
    part.replace(path)
