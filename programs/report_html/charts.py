"""The charts of a page: what stands where. `templates/charts.html` draws them as SVG."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from programs.report_html.axes import Scale, scale, shortened, spread, text_width

WIDTH = 460
Limits = tuple[float, float]
_ROW, _TOP, _BOTTOM, _LABEL_GAP = 25, 12, 48, 17
_NAMES = 170  # pixels that names may take at most
_DECADE = 8  # times by which values differ that need a logarithmic axis
_INSET = 8  # between the axis and a point at its end


@dataclass(frozen=True)
class Point:
    """A named value with its interval. `kind` decides its colour and shape: see the legend."""

    name: str
    value: float
    low: float
    high: float
    kind: str = "r2p"
    x: float = 0.0


@dataclass(frozen=True)
class Mark:
    """A point as it is drawn, in pixels."""

    name: str
    label: str
    kind: str
    x: float
    y: float
    start: float  # of the interval
    end: float
    label_y: float
    text: str  # the value in words


@dataclass(frozen=True)
class Line:
    """A line through points."""

    name: str
    kind: str
    points: str  # as SVG takes them
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart in pixels.

    Args:
        shape: "rows" (an interval a row) or "plane" (points in two dimensions).
        title: what it shows; also its accessible name.
        note: the axis, and which direction is better.
    """

    shape: str
    title: str
    note: str
    height: int
    left: float
    right: float
    bottom: float
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    marks: Sequence[Mark]
    lines: Sequence[Line] = ()
    zero: float | None = None
    x_note: str = ""
    legend: Sequence[tuple[str, str]] = field(default_factory=list)  # kind and words
    width: float = WIDTH


def rows_chart(
    title: str,
    note: str,
    points: Sequence[Point],
    legend: Mapping[str, str],
    within: Limits,
    *,
    zero: float | None = None,
) -> Chart:
    """A chart with a row for each value, from top to bottom; `within` limits the axis, `zero` draws a line."""
    left = min(_NAMES, max(text_width(point.name) for point in points)) + 14
    right = WIDTH - 64
    inner = [value for point in points for value in (point.low, point.high)]
    axis = scale(inner if zero is None else [*inner, zero], left + _INSET, right - _INSET, within=within)
    bottom = _TOP + _ROW * len(points) + 4
    marks = [
        Mark(
            name=point.name,
            label=shortened(point.name, _NAMES),
            kind=point.kind,
            x=axis(point.value),
            y=(y := _TOP + _ROW * (row + 0.5)),
            start=axis(point.low),
            end=axis(point.high),
            label_y=y,
            text=_signed(point.value, zero is not None),
        )
        for row, point in enumerate(points)
    ]
    return Chart(
        shape="rows",
        title=title,
        note=note,
        height=bottom + 26,
        left=left,
        right=right,
        bottom=bottom,
        x_ticks=axis.ticks,
        y_ticks=[],
        marks=marks,
        zero=None if zero is None else axis(zero),
        legend=_used(legend, points),
    )


def plane_chart(
    title: str,
    note: str,
    x_note: str,
    points: Sequence[Point],
    legend: Mapping[str, str],
    within: Limits,
    *,
    lines: Sequence[tuple[str, str, Sequence[tuple[float, float]], bool]] = (),
) -> Chart:
    """Named points with their intervals; a name stands beside the plane and a thin line leads to its point.

    Values of x that differ by much stand on a logarithmic axis.

    Args:
        title, note, x_note: what it shows, and its axes.
        points: those with a name get a label.
        legend: words for each kind of point.
        within: limits of the vertical axis.
        lines: name, kind, points as (x, value), and whether it is dashed.
    """
    named = [point for point in points if point.name]
    height = max(300, _TOP + _BOTTOM + _LABEL_GAP * (len(named) + 1))
    bottom, left = height - _BOTTOM, 52
    names = min(_NAMES, max((text_width(point.name) for point in named), default=0))
    width = WIDTH + max(0, names - _NAMES // 2)  # long names take no room from the plane
    right = width - names - 34
    xs = [point.x for point in points]
    x_axis = scale(xs, left + _INSET, right - _INSET, log=0 < min(xs) * _DECADE < max(xs), within=(0, math.inf))
    values = [value for point in points for value in (point.low, point.high)]
    y_axis = scale(values, bottom - _INSET, _TOP + _INSET, within=within)
    places = iter(spread([y_axis(point.value) for point in named], _LABEL_GAP, _TOP + 8, bottom - 4))
    marks = [
        Mark(
            name=point.name,
            label=shortened(point.name, _NAMES),
            kind=point.kind,
            x=x_axis(point.x),
            y=y_axis(point.value),
            start=y_axis(point.high),
            end=y_axis(point.low),
            label_y=next(places) if point.name else 0.0,
            text=f"{point.value:.3f} at {point.x:,.4g}",
        )
        for point in points
    ]
    return Chart(
        shape="plane",
        title=title,
        note=note,
        x_note=x_note,
        height=height,
        left=left,
        right=right,
        bottom=bottom,
        x_ticks=_apart(x_axis),
        y_ticks=y_axis.ticks,
        marks=marks,
        width=width,
        lines=[
            Line(name, kind, " ".join(f"{x_axis(x)},{y_axis(y)}" for x, y in path), dashed)
            for name, kind, path, dashed in lines
        ],
        legend=_used(legend, points),
    )


def _apart(axis: Scale) -> list[tuple[float, str]]:
    """An axis's ticks, without those that would touch the one before."""
    ticks: list[tuple[float, str]] = []
    for place, text in axis.ticks:
        if not ticks or place - ticks[-1][0] > (text_width(text) + text_width(ticks[-1][1])) / 2 + 6:
            ticks.append((place, text))
    return ticks


def _used(legend: Mapping[str, str], points: Sequence[Point]) -> list[tuple[str, str]]:
    kinds = {point.kind for point in points}
    return [(kind, words) for kind, words in legend.items() if kind in kinds]


def _signed(value: float, signed: bool) -> str:
    return f"{value:+.3f}" if signed else f"{value:.3f}"


def steps(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The corners of a frontier: it stays at the best value so far until a point reaches a better one.

    Examples:
        >>> list(steps([(1, 0.5), (3, 0.7)]))
        [(1, 0.5), (3, 0.5), (3, 0.7)]
    """
    before: float | None = None
    for x, value in sorted(points):
        if before is not None:
            yield x, before
        yield x, value
        before = value
