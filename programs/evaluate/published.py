"""What others report on LaMP's data with four retrieved items: figures to stand beside, not to compare in pairs.

They are of other models, and of the splits and the data that each paper used; a number measured here on the persona
world has nothing to do with them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

K = 4


@dataclass(frozen=True)
class Published:
    """One source's figures.

    Args:
        source: the model, and how it is given the history.
        figures: by task and metric.
    """

    source: str
    figures: Mapping[str, Mapping[str, float]]


PUBLISHED = (
    Published(
        "gpt-4o-mini + BM25",
        {
            "lamp1": {"accuracy": 0.632},
            "lamp2": {"accuracy": 0.502, "f1": 0.430},
            "lamp3": {"mae": 0.272, "rmse": 0.579},
            "lamp4": {"rouge1": 0.161},
        },
    ),
    Published(
        "FlanT5-XXL + PPlug",
        {
            "lamp1": {"accuracy": 0.687},
            "lamp2": {"accuracy": 0.565, "f1": 0.501},
            "lamp3": {"mae": 0.215, "rmse": 0.506},
            "lamp4": {"rouge1": 0.220, "rougeL": 0.203},
            "lamp5": {"rouge1": 0.498, "rougeL": 0.448},
            "lamp7": {"rouge1": 0.547, "rougeL": 0.495},
        },
    ),
    Published(
        "SmolLM3-3B LoRA + BM25",
        {"lamp3": {"accuracy": 0.806}, "lamp4": {"rouge1": 0.226}, "lamp7": {"rouge1": 0.562}},
    ),
)


def published(task: str) -> dict[str, Mapping[str, float]]:
    """A task's figures by their source.

    Example:
        >>> published("lamp1")
        {'gpt-4o-mini + BM25': {'accuracy': 0.632}, 'FlanT5-XXL + PPlug': {'accuracy': 0.687}}
    """
    return {one.source: one.figures[task] for one in PUBLISHED if task in one.figures}


def lines(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Such figures in words, a source a line.

    Example:
        >>> lines(published("lamp5"))
        ['FlanT5-XXL + PPlug: rouge1 .498, rougeL .448']
    """
    return [
        f"{source}: " + ", ".join(f"{name} {value:.3f}".replace(" 0.", " .") for name, value in of_source.items())
        for source, of_source in figures.items()
    ]
