"""Scales with round ticks, and labels that do not overlap."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_CHARACTER = 7.6  # pixels of a character at the charts' size of type


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic scale from values to pixels.

    Args:
        low, high: the values at its ends.
        start, end: their pixels.
        log: whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = map(math.log10, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Pixels and texts of its round values."""
        values = _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high)
        return [(self(value), f"{value:,.10g}") for value in values]


def scale(
    values: Sequence[float],
    start: float,
    end: float,
    *,
    log: bool = False,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Scale:
    """A scale that holds some values with a little room on both sides, and ends at round ones `within` some limits."""
    low, high = min(values), max(values)
    if log:
        return Scale(low / 1.15, high * 1.15, start, end, log=True)
    room = (high - low or abs(high) or 1.0) * 0.06
    step = _step(high - low + 2 * room)
    first, last = math.floor((low - room) / step) * step, math.ceil((high + room) / step) * step
    return Scale(min(low, max(first, within[0])), max(high, min(last, within[1])), start, end)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near some others that keep a distance and stay between `low` and `high`, as far as there is room.

    Examples:
        >>> spread([10, 11, 50], gap=15, low=0, high=60)
        [3.0, 18.0, 50.0]
        >>> spread([58, 59], gap=15, low=0, high=60)
        [45.0, 60.0]
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    clusters: list[list[int]] = []
    for index in order:
        clusters.append([index])
        while len(clusters) > 1 and _top(clusters[-1], places, gap, low, high) < gap + _bottom(
            clusters[-2], places, gap, low, high
        ):
            clusters[-2:] = [[*clusters[-2], *clusters[-1]]]
    spaced = [0.0] * len(places)
    for cluster in clusters:
        top = _top(cluster, places, gap, low, high)
        for position, index in enumerate(cluster):
            spaced[index] = round(float(top + position * gap), 1)
    return spaced


def text_width(text: str) -> float:
    """About how many pixels a label takes; East Asian characters are wide."""
    return sum(_CHARACTER * (1.7 if unicodedata.east_asian_width(char) in "WF" else 1) for char in text)


def shortened(text: str, width: float) -> str:
    """A label that fits into so many pixels."""
    if text_width(text) <= width:
        return text
    while text and text_width(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _top(cluster: Sequence[int], places: Sequence[float], gap: float, low: float, high: float) -> float:
    """Where the first of a group stands, if the group stands in the middle of the places that it wants."""
    middle = sum(places[index] for index in cluster) / len(cluster)
    length = gap * (len(cluster) - 1)
    return max(low, min(middle - length / 2, high - length))


def _bottom(cluster: Sequence[int], places: Sequence[float], gap: float, low: float, high: float) -> float:
    return _top(cluster, places, gap, low, high) + gap * (len(cluster) - 1)


def _step(span: float) -> float:
    """A round distance between about five ticks."""
    raw = span / 5
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)


def _ticks(low: float, high: float) -> list[float]:
    step = _step(high - low)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [value for value in values if low <= value <= high]
