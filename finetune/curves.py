"""The learning curves of a run, as one figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from programs.ui.plots import new_figure, write_figure

_SMOOTH = 10  # steps that a point of a reward's line is the mean of
_PARTS = ("task", "structure", "evidence", "consistency")


def plot_curves(histories: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Draw what was logged, as PNG: for each training a panel, with the score on dev over loss or rewards.

    Args:
        histories: of each training its `log_history`, as transformers keeps it.
        path: where to, written whole.
    """
    figure = new_figure((7 * len(histories), 4.5))
    panels = figure.subplots(1, len(histories), squeeze=False)[0]
    for axes, (name, log) in zip(panels, histories.items()):
        steps, scores = points(log, "eval_score")
        axes.plot(steps, scores, "ko-", label="score on dev")
        _, compliant = points(log, "eval_compliance")
        axes.plot(steps, compliant, "k:", label="compliance on dev")
        if any("reward" in entry for entry in log):
            axes.plot(*smooth(*points(log, "rewards/composite/mean")), label="reward")
            for part in _PARTS:
                axes.plot(*smooth(*points(log, f"rewards/{part}/mean")), linewidth=0.8, alpha=0.7, label=part)
            axes.plot(*smooth(*points(log, "frac_reward_zero_std")), "--", color="grey", label="groups without spread")
        else:
            beside = axes.twinx()
            beside.plot(*points(log, "loss"), color="C0", linewidth=0.8)
            beside.set_ylabel("loss", color="C0")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylim(-0.05, 1.05)
        axes.legend(fontsize=7, loc="lower right")
    write_figure(figure, path)


def points(log: Sequence[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """The steps at which something was logged, and its values; of a step that was done again the last one."""
    found = {entry["step"]: entry[key] for entry in log if entry.get(key) is not None}
    return [*found], [*found.values()]


def smooth(steps: Sequence[int], values: Sequence[float]) -> tuple[list[int], list[float]]:
    """Means of the last so many values."""
    means = [sum(values[max(0, end - _SMOOTH) : end]) / min(end, _SMOOTH) for end in range(1, len(values) + 1)]
    return [*steps], means
