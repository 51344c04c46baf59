"""Figures: how good programs are, against what they cost, and against how much history they are shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from r2p_dspy.files import atomic_path

_TOKENS = "completion tokens for each example (thrown-away ones too)"
_LOOKS = ("o-", "s--", "^:", "D-.", "v-", "P--", "X:")


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw the task's first metric against completion tokens, as PNG.

    Args:
        report: of an evaluation; each program is a point with its 95 % interval, each floor a dashed line.
        path: where to, written whole.
    """
    metric = next(iter(next(iter(report["programs"].values()))["metrics"]))
    figure = new_figure((10, 5))
    axes = figure.subplots()
    for name, entry in report["programs"].items():
        marker = "o" if name.startswith("r2p") else "s"
        tokens = entry["tokens"]["completion"] / report["examples"]
        _line(axes, [tokens], [entry["metrics"][metric]], fmt=marker, label=name)
    figure.legend(loc="outside right upper")  # beside the points, which often lie close together
    _floors(axes, next(iter(report["programs"].values()))["floors"])
    axes.set_xlabel(_TOKENS)
    axes.set_ylabel(_direction(metric))
    axes.set_title(f"{report['task']}, {report['data']}, {report['examples']} users, {report['lm']}", fontsize=10)
    write_figure(figure, path)


def plot_sweep(found: Mapping[str, Any], path: Path) -> None:
    """Draw a task's first metric against k, and against completion tokens, side by side, as PNG.

    Args:
        found: of a sweep's report, see `sweep.compare`; each program of each model is a line over the ks, with its
            95 % intervals, each floor a dashed line. A program has a colour, a model a marker.
        path: where to, written whole.
    """
    figure = new_figure((14, 5.5))
    by_k, by_tokens = figure.subplots(1, 2, sharey=True)
    models = list(dict.fromkeys(cell["model"] for cell in found["cells"]))
    programs = list(dict.fromkeys(program for cell in found["cells"] for program in cell["programs"]))
    ks = sorted({cell["k"] for cell in found["cells"]})
    for model in models:
        for program in programs:
            cells = [one for one in found["cells"] if one["model"] == model and program in one["programs"]]
            values = [cell["programs"][program]["metrics"][found["metric"]] for cell in cells]
            tokens = [cell["programs"][program]["tokens"]["completion"] / found["examples"] for cell in cells]
            number = programs.index(program)
            look: dict[str, Any] = {"fmt": _LOOKS[models.index(model) % len(_LOOKS)], "color": f"C{number % 10}"}
            look |= {"alpha": 0.8, "label": f"{model} {program}"}
            # Beside one another, for intervals at one place would hide each other.
            place = (number + len(programs) * models.index(model)) / (len(programs) * len(models))
            beside = 0.06 * place * (ks[-1] - ks[0] or 1)
            _line(by_k, [cell["k"] + beside for cell in cells], values, **look)
            _line(by_tokens, tokens, values, **look)
            for cell, x, value in zip(cells, tokens, values, strict=True):
                by_tokens.annotate(f"{cell['k']}", (x, value["value"]), (3, 3), textcoords="offset points", fontsize=7)
    for axes in (by_k, by_tokens):
        _floors(axes, found["floors"])
    by_k.set_xticks(ks)
    by_k.set_xlabel("k, the items that a prompt shows")
    by_k.set_ylabel(_direction(found["metric"]))
    by_tokens.set_xlabel(f"{_TOKENS}; beside each point its k")
    figure.legend(*by_k.get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle(f"{found['task']}, {found['data']}, {found['examples']} examples", fontsize=10)
    write_figure(figure, path)


def plot_tuning(found: Mapping[str, Any], title: str, path: Path) -> None:
    """Draw the composite score on dev against completion tokens, and against all tokens, side by side, as PNG.

    Args:
        found: of `tuning_run.summarize`; each trial is a point, hollow if it was given up; those on the frontier are
            joined and bear their number; the start and the winner are marked, with their 95 % intervals.
        title: of the figure.
        path: where to, written whole.
    """
    figure = new_figure((14, 5.5))
    for axes, tokens in zip(figure.subplots(1, 2, sharey=True), ("completion", "all"), strict=True):
        edge = [(one["tokens"][tokens], one["score"]["value"]) for one in found["trials"] if tokens in one["frontier"]]
        axes.step(*zip(*sorted(edge), strict=True), where="post", color="C0", alpha=0.5, label="frontier")
        for number, one in enumerate(found["trials"]):
            x, value = one["tokens"][tokens], one["score"]
            marked = [name for name in ("start", "winner") if one["setting"] == found[name]]
            if marked:
                color = {"start": "C1", "winner": "C2"}[marked[-1]]
                _line(axes, [x], [value], fmt="D", color=color, label=f"{' and '.join(marked)}: {one['setting']}")
            else:
                color = "C0" if tokens in one["frontier"] else "grey"
                axes.plot([x], [value["value"]], "o", color=color, fillstyle="none" if one["given_up"] else "full")
            if marked or tokens in one["frontier"]:
                axes.annotate(f"{number}", (x, value["value"]), (4, 4), textcoords="offset points", fontsize=8)
        if min(one["tokens"][tokens] for one in found["trials"]) > 0:  # some servers count none
            axes.set_xscale("log")
        axes.set_xlabel(f"{tokens} tokens for each answer (thrown-away ones too)")
    left = figure.axes[0]
    left.set_ylabel("composite score on dev (higher is better)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(title, fontsize=10)
    write_figure(figure, path)


def new_figure(size: tuple[float, float]) -> Any:
    """A figure of this size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _line(axes: Any, xs: Sequence[float], values: Sequence[Mapping[str, float]], **look: Any) -> None:
    """Values with their intervals."""
    ends = [[one["value"] - one["low"] for one in values], [one["high"] - one["value"] for one in values]]
    axes.errorbar(xs, [one["value"] for one in values], yerr=ends, capsize=3, **look)


def _floors(axes: Any, floors: Mapping[str, float]) -> None:
    for value in dict.fromkeys(floors.values()):
        names = ", ".join(name for name, floor in floors.items() if floor == value)
        axes.axhline(value, color="grey", linestyle="--", linewidth=0.8)
        axes.annotate(names, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="grey")


def _direction(metric: str) -> str:
    return f"{metric} ({'lower' if metric in ('mae', 'rmse') else 'higher'} is better)"


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=150)
