"""Published results: on LaMP with four retrieved items, on LongLaMP with two.

They come from other models and from each paper's own data and splits, so differences to them have no interval. They
cannot be compared with results on the persona world. For LaMP-QA no table could be read where this was written.
"""

from collections.abc import Mapping

from programs.data.dataset import PERSONA_WORLD
from programs.tasks.task import Task

ITEMS: Mapping[str, int] = {"LaMP": 4, "LongLaMP": 2}  # that the prompts show
SPLIT: Mapping[str, str] = {"LaMP": "dev", "LongLaMP": "test"}  # on which they were measured
# The arXiv ids of the sources' papers, as far as they are known.
PAPERS: Mapping[str, str] = {
    "FlanT5-XXL + PPlug": "2409.11901",
    **dict.fromkeys(
        ("Llama-2-7B-chat", "Llama-2-7B-chat + BM25", "Llama-2-7B-chat + StyleVector"), "2503.05213"
    ),  # its table 2: the splits by user
}
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
    "Llama-2-7B-chat": {
        "longlamp-abstract": {"rougeL": 0.2056, "meteor": 0.2950},
        "longlamp-topic": {"rougeL": 0.1299, "meteor": 0.1874},
        "longlamp-review": {"rougeL": 0.1380, "meteor": 0.1614},
    },
    "Llama-2-7B-chat + BM25": {
        "longlamp-abstract": {"rougeL": 0.2020, "meteor": 0.2911},
        "longlamp-topic": {"rougeL": 0.1235, "meteor": 0.1782},
        "longlamp-review": {"rougeL": 0.1388, "meteor": 0.1655},
    },
    "Llama-2-7B-chat + StyleVector": {
        "longlamp-abstract": {"rougeL": 0.2060, "meteor": 0.2973},
        "longlamp-topic": {"rougeL": 0.1361, "meteor": 0.1949},
        "longlamp-review": {"rougeL": 0.1448, "meteor": 0.1804},
    },
}


def published(task: str) -> dict[str, Mapping[str, float]]:
    """The published results of a task, by source.

    Examples:
        >>> published("lamp1")
        {'gpt-4o-mini + BM25': {'accuracy': 0.632}, 'FlanT5-XXL + PPlug': {'accuracy': 0.687}}
    """
    return {source: by_task[task] for source, by_task in PUBLISHED.items() if task in by_task}


def benchmark(task: Task) -> str:
    """The benchmark of a task that has published results, or whose results may be published."""
    return task.lamp.partition("_")[0]


def comparable(task: Task, split: str, source: str) -> dict[str, Mapping[str, float]]:
    """The published results beside which those on a benchmark's own split may stand; none on other data."""
    return published(task.name) if split == SPLIT.get(benchmark(task)) and source != PERSONA_WORLD else {}


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
