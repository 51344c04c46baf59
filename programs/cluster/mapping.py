"""Ray Data, as this project uses it: a function or a class of workers over rows of data, and results as they come."""

import logging
from collections.abc import Callable, Generator, Iterable
from typing import Any

from programs.cluster.connecting import environment


def capacity(gpus: bool) -> tuple[int, dict[str, float]]:
    """How many workers the cluster has room for, and what each needs: a CPU and, where `gpus` and it has any, a GPU."""
    import ray

    resources = ray.cluster_resources()
    if gpus and resources.get("GPU", 0) >= 1:
        return int(resources["GPU"]), {"num_cpus": 1, "num_gpus": 1}
    return max(1, int(resources.get("CPU", 1))), {"num_cpus": 1}


def mapped(
    rows: Iterable[dict[str, Any]], function: Callable[..., Any], needs: dict[str, float], **options: Any
) -> Generator[dict[str, Any]]:
    """The results of a function, or of a class, of each of the rows, in any order, as Ray Data brings them.

    Each row is a block, so that a worker has one at a time, and a lost worker loses one. Ray Data holds back what
    nobody has taken yet, and asks again for what a lost worker or node had.

    Args:
        rows: what is mapped, texts or bytes; Ray's store holds them until they are mapped.
        function: of a batch of one row; with workers of a class, the class.
        needs: what a worker needs, as Ray names it.
        options: others of `map_batches`.
    """
    import pyarrow
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = [ray.put(pyarrow.Table.from_pylist([row])) for row in rows]
    dataset = ray.data.from_arrow_refs(blocks).map_batches(
        function, batch_size=1, runtime_env=environment(), **needs, **options
    )
    yield from dataset.iter_rows()


def pool(workers: int, threads: int = 1) -> Any:
    """Up to so many workers; fewer where nodes are lost, since what waits for room then would wait for ever.

    Args:
        workers: how many.
        threads: rows that each has at a time. For more than one, it also needs as much `max_concurrency`.
    """
    import ray.data

    return ray.data.ActorPoolStrategy(
        min_size=1,
        max_size=workers,
        initial_size=workers,
        max_tasks_in_flight_per_actor=threads,
        enable_true_multi_threading=threads > 1,
    )
