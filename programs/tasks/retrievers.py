"""The retrievers of the command line, by name."""

from functools import lru_cache

from programs.tasks.task import Task
from r2p_dspy import BM25, All, Budget, Dense, Hybrid, Random, Recency, Retriever
from r2p_dspy.errors import ConfigError
from r2p_dspy.retrieval.dense import Embedder
from r2p_dspy.retrieval.embedders import embedder

RETRIEVERS = ("bm25", "recency", "random", "all", "dense:NAME", "hybrid:NAME")


def default_retriever(task: Task, k: int = 4) -> BM25:
    """BM25 that matches what LaMP's official script matches."""
    return BM25(k=k).bind(query=task.query_text if task.match else task.question, text=task.searched)


def retriever(task: Task, name: str, *, k: int = 4, seed: int = 0, tokens: int | None = None) -> Retriever:
    """A task's retriever; all but `recency`, `random` and `all` match what LaMP's official script matches.

    Args:
        task: says what a query and an item's text are.
        name: one of `RETRIEVERS`, with an embedding model's name for NAME (see
            `r2p_dspy.retrieval.embedders.embedder`); a hybrid joins BM25 and that dense one.
        k: how many items, at least 0; `all` leaves it aside.
        seed: of `random`.
        tokens: what the items may take together, see `r2p_dspy.Budget`; None for no such limit.

    Raises:
        ValueError: one line, for an unknown name, a model that cannot be loaded, and numbers that cannot be.

    Example:
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
        made = known[name]
    elif kind in ("dense", "hybrid") and model:
        # Not by cosine: what is to be of unit length is so already, and Contriever's is not to be.
        dense = Dense(_loaded(model), k, bm25.query, bm25.text, normalize=False)
        made = dense if kind == "dense" else Hybrid(bm25, dense, k=k)
    else:
        raise ConfigError(f"unknown retriever {name!r}; the retrievers are {', '.join(RETRIEVERS)}")
    return made if tokens is None else Budget(made, tokens)


@lru_cache(maxsize=1)  # a sweep asks for it at every k of every model
def _loaded(name: str) -> Embedder:
    return embedder(name)
