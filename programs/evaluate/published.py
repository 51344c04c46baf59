"""Published results on LaMP with four retrieved items.

They come from other models and from each paper's own data and splits, so differences to them have no interval. They
cannot be compared with results on the persona world.
"""

from collections.abc import Mapping

K = 4
# The arXiv ids of the sources' papers, as far as they are known.
PAPERS: Mapping[str, str] = {"FlanT5-XXL + PPlug": "2409.11901"}
# By source (the model, and how it gets the history), task and metric.
PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "gpt-4o-mini + BM25": {
        "lamp1": {"accuracy": 0.632},
        "lamp2": {"accuracy": 0.502, "f1": 0.430},
        "lamp3": {"mae": 0.272, "rmse": 0.579},
        "lamp4": {"rouge1": 0.161},
    },
    "FlanT5-XXL + PPlug": {
        "lamp1": {"accuracy": 0.687},
        "lamp2": {"accuracy": 0.565, "f1": 0.501},
        "lamp3": {"mae": 0.215, "rmse": 0.506},
        "lamp4": {"rouge1": 0.220, "rougeL": 0.203},
        "lamp5": {"rouge1": 0.498, "rougeL": 0.448},
        "lamp7": {"rouge1": 0.547, "rougeL": 0.495},
    },
    "SmolLM3-3B LoRA + BM25": {
        "lamp3": {"accuracy": 0.806},
        "lamp4": {"rouge1": 0.226},
        "lamp7": {"rouge1": 0.562},
    },
}


def published(task: str) -> dict[str, Mapping[str, float]]:
    """The published results of a task, by source.

    Examples:
        >>> published("lamp1")
        {'gpt-4o-mini + BM25': {'accuracy': 0.632}, 'FlanT5-XXL + PPlug': {'accuracy': 0.687}}
    """
    return {source: by_task[task] for source, by_task in PUBLISHED.items() if task in by_task}


def lines(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Published results as text, one line per source.

    Examples:
        >>> lines(published("lamp5"))
        ['FlanT5-XXL + PPlug: rouge1 .498, rougeL .448']
    """
    return [
        f"{source}: " + ", ".join(f"{name} {value:.3f}".replace(" 0.", " .") for name, value in values.items())
        for source, values in figures.items()
    ]
