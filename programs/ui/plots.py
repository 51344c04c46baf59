"""Figures: quality against cost, and against how much history a prompt shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metrics.lamp import METRICS
from r2p_dspy.files import atomic_path

_TOKENS = "completion tokens per example (discarded ones too)"
_FORMATS = ("o-", "s--", "^:", "D-.", "v-", "P--", "X:")


def draw(report: Mapping[str, Any], directory: Path) -> None:
    """Draw the figures that belong to a report: of an ablation, of tuning, and of each task of a sweep."""
    if report["command"] == "sweep":
        for name, task in report["tasks"].items():
            plot_sweep(task, directory / f"{name}.png")
    elif "not_runnable" in report:  # an ablation
        plot(report, directory / "ablation.png")
    elif report.get("tuning", {}).get("trials"):
        plot_tuning(report["tuning"], f"{report['task']}, {report['data']}", directory / "tuning.png")


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw the task's first metric against completion tokens: a point with its 95 % interval for each program."""
    first = next(iter(report["programs"].values()))
    metric = next(iter(first["metrics"]))
    figure = new_figure((10, 5))
    axes = figure.subplots()
    for name, entry in report["programs"].items():
        marker = "o" if name.startswith("r2p") else "s"
        tokens = entry["tokens"]["completion"] / report["examples"]
        _errorbars(axes, [tokens], [entry["metrics"][metric]], fmt=marker, label=name)
    figure.legend(loc="outside right upper")  # beside the points, which often lie close together
    _baselines(axes, first["baselines"])
    axes.set_xlabel(_TOKENS)
    axes.set_ylabel(_direction(metric))
    axes.set_title(f"{report['task']}, {report['data']}, {report['examples']} users, {report['lm']}", fontsize=10)
    write_figure(figure, path)


def plot_sweep(result: Mapping[str, Any], path: Path) -> None:
    """Draw a task's first metric against k, and against completion tokens. A program has a colour, a model a marker."""
    figure = new_figure((14, 5.5))
    by_k, by_tokens = figure.subplots(1, 2, sharey=True)
    models = list(dict.fromkeys(cell["model"] for cell in result["cells"]))
    programs = list(dict.fromkeys(program for cell in result["cells"] for program in cell["programs"]))
    ks = sorted({cell["k"] for cell in result["cells"]})
    for row, model in enumerate(models):
        for column, program in enumerate(programs):
            cells = [cell for cell in result["cells"] if cell["model"] == model and program in cell["programs"]]
            values = [cell["programs"][program]["metrics"][result["metric"]] for cell in cells]
            tokens = [cell["programs"][program]["tokens"]["completion"] / result["examples"] for cell in cells]
            style: dict[str, Any] = {"fmt": _FORMATS[row % len(_FORMATS)], "color": f"C{column % 10}"}
            style |= {"alpha": 0.8, "label": f"{model} {program}"}
            # Intervals at the same k would hide each other, so they stand side by side.
            place = (column + len(programs) * row) / (len(programs) * len(models))
            offset = 0.06 * place * (ks[-1] - ks[0] or 1)
            _errorbars(by_k, [cell["k"] + offset for cell in cells], values, **style)
            _errorbars(by_tokens, tokens, values, **style)
            for cell, x, value in zip(cells, tokens, values, strict=True):
                by_tokens.annotate(f"{cell['k']}", (x, value["value"]), (3, 3), textcoords="offset points", fontsize=7)
    for axes in (by_k, by_tokens):
        _baselines(axes, result["baselines"])
    by_k.set_xticks(ks)
    by_k.set_xlabel("k, the items that a prompt shows")
    by_k.set_ylabel(_direction(result["metric"]))
    by_tokens.set_xlabel(f"{_TOKENS}; each point shows its k")
    figure.legend(*by_k.get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle(f"{result['task']}, {result['data']}, {result['examples']} examples", fontsize=10)
    write_figure(figure, path)


def plot_tuning(tuning: Mapping[str, Any], title: str, path: Path) -> None:
    """Draw the composite score on dev against completion tokens, and against all tokens.

    Each trial is a point, hollow if it was given up. Those on the frontier are joined and numbered; the start and the
    winner have their 95 % intervals.
    """
    figure = new_figure((14, 5.5))
    trials = tuning["trials"]
    for axes, kind in zip(figure.subplots(1, 2, sharey=True), ("completion", "all"), strict=True):
        edge = [(trial["tokens"][kind], trial["score"]["value"]) for trial in trials if kind in trial["frontier"]]
        axes.step(*zip(*sorted(edge), strict=True), where="post", color="C0", alpha=0.5, label="frontier")
        for number, trial in enumerate(trials):
            x, value = trial["tokens"][kind], trial["score"]
            marked = [name for name in ("start", "winner") if trial["setting"] == tuning[name]]
            if marked:
                color = {"start": "C1", "winner": "C2"}[marked[-1]]
                label = f"{' and '.join(marked)}: {trial['setting']}"
                _errorbars(axes, [x], [value], fmt="D", color=color, label=label)
            else:
                color = "C0" if kind in trial["frontier"] else "grey"
                fill = "none" if trial["given_up"] else "full"
                axes.plot([x], [value["value"]], "o", color=color, fillstyle=fill)
            if marked or kind in trial["frontier"]:
                axes.annotate(f"{number}", (x, value["value"]), (4, 4), textcoords="offset points", fontsize=8)
        if min(trial["tokens"][kind] for trial in trials) > 0:  # some servers count no tokens
            axes.set_xscale("log")
        axes.set_xlabel(f"{kind} tokens per answer (discarded ones too)")
    left = figure.axes[0]
    left.set_ylabel("composite score on dev (higher is better)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title, fontsize=10)
    write_figure(figure, path)


def new_figure(size: tuple[float, float]) -> Any:
    """A figure of this size in inches. It needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _errorbars(axes: Any, xs: Sequence[float], values: Sequence[Mapping[str, float]], **style: Any) -> None:
    """Draw values with their intervals."""
    lengths = zip(*((value["value"] - value["low"], value["high"] - value["value"]) for value in values), strict=True)
    axes.errorbar(xs, [value["value"] for value in values], yerr=[*lengths], capsize=3, **style)


def _baselines(axes: Any, baselines: Mapping[str, float]) -> None:
    """Draw the trivial baselines as dashed lines; equal ones share a line."""
    for value in dict.fromkeys(baselines.values()):
        names = ", ".join(name for name, reached in baselines.items() if reached == value)
        axes.axhline(value, color="grey", linestyle="--", linewidth=0.8)
        axes.annotate(names, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey")


def _direction(metric: str) -> str:
    return f"{metric} ({'higher' if METRICS[metric].higher_is_better else 'lower'} is better)"


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=150)
