"""Retrievers by the names that the command line takes."""

from functools import lru_cache

from programs.tasks.task import Task
from r2p_dspy import BM25, All, Budget, Dense, Hybrid, Random, Recency, Retriever
from r2p_dspy.errors import ConfigError
from r2p_dspy.retrieval.dense import Embedder
from r2p_dspy.retrieval.embedders import embedder

MODEL_FREE = ("bm25", "recency", "random", "all")  # a compiled program's file may choose one of these
RETRIEVERS = (*MODEL_FREE, "dense:NAME", "hybrid:NAME")


def default_retriever(task: Task, k: int = 4) -> BM25:
    """BM25 over the texts that a task matches; for LaMP's as its official script does (`rank_profiles.py`)."""
    query = task.query_text if task.match else task.question
    return BM25(k, query, task.searched, task.tokenize or str.split)


def retriever(task: Task, name: str, *, k: int = 4, seed: int = 0, tokens: int | None = None) -> Retriever:
    """A task's retriever by name. BM25, dense and hybrid ones match the texts that LaMP's official script matches.

    Args:
        task: the task, which defines the query and an item's text.
        name: one of `RETRIEVERS`, with an embedding model's name for NAME (see
            `r2p_dspy.retrieval.embedders.embedder`). `hybrid` joins BM25 and the dense retriever.
        k: number of items, at least 0; `all` ignores it.
        seed: of `random`.
        tokens: limit on the tokens of all items together, at least 1 (see `r2p_dspy.Budget`); None for no limit.

    Raises:
        ConfigError: one line, for an unknown name, an embedding model that cannot be loaded, and a number out of range.

    Examples:
        >>> from programs.tasks.lamp4 import TASK
        >>> retriever(TASK, "bm25", k=2).text
        ('title', 'text')
    """
    if k < 0:
        raise ConfigError(f"--k must be at least 0, not {k}")
    kind, _, model = name.partition(":")
    bm25 = default_retriever(task, k)
    known: dict[str, Retriever] = {"bm25": bm25, "recency": Recency(k), "random": Random(k, seed), "all": All()}
    if name in known:
        selected = known[name]
    elif kind in ("dense", "hybrid") and model:
        # Without normalizing: the embedder returns unit vectors where the model needs them, and Contriever does not.
        dense = Dense(_loaded(model), k, bm25.query, bm25.text, normalize=False)
        selected = dense if kind == "dense" else Hybrid(bm25, dense, k=k)
    else:
        raise ConfigError(f"unknown retriever {name!r}; the retrievers are {', '.join(RETRIEVERS)}")
    return selected if tokens is None else Budget(selected, tokens)


@lru_cache(maxsize=1)  # a sweep loads it for every k of every model
def _loaded(name: str) -> Embedder:
    return embedder(name)
