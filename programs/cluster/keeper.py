"""The calls of all workers, kept and counted in one place, on the machine of the command that writes the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from programs.calls.cache import Call, CallCache, CallCacheFailed, Usage
from programs.calls.usage import UsageLimiter
from programs.cluster.connecting import environment


class Keeper:
    """Has the call cache of a run open, and counts; an actor of Ray, which workers ask.

    Args:
        directory: of the call cache; None keeps no calls.
        run: the id of the run that pays for new calls.
        by_row: see `CallCache`.
    """

    def __init__(self, directory: Path | None, run: str, by_row: bool):
        self._cache = None if directory is None else CallCache(directory, run, by_row=by_row)
        self._spent, self._replayed, self._seconds = Usage(), Usage(), list[float]()

    def get(self, key: str) -> tuple[Call | None, str]:
        """The completed call, or None, and what is wrong with the cache: Ray passes on no `BaseException`."""
        assert self._cache is not None
        try:
            return self._cache.get(key), ""
        except CallCacheFailed as failed:
            return None, str(failed)

    def put(self, key: str, model: str, call: Call, user: str | None) -> str:
        """Store a completed call, and return what is wrong with the cache."""
        assert self._cache is not None
        try:
            self._cache.put(key, model, call, user)
        except CallCacheFailed as failed:
            return str(failed)
        return ""

    def count(self, usage: Usage, replayed: bool) -> None:
        """Count a call."""
        if replayed:
            self._replayed += usage
        else:
            self._spent += usage
        self._seconds.append(usage.seconds)

    def take(self) -> tuple[Usage, Usage, list[float]]:
        """What calls took since it was last taken, as `UsageLimiter.include` takes it."""
        counted = self._spent, self._replayed, self._seconds
        self._spent, self._replayed, self._seconds = Usage(), Usage(), []
        return counted

    def close(self) -> None:
        """Close the cache."""
        if self._cache is not None:
            self._cache.close()


class KeptCalls:
    """The call cache of a keeper, as `record_calls` uses one; see `CallCache`."""

    def __init__(self, keeper: Any, by_row: bool):
        self._keeper, self.by_row = keeper, by_row

    def get(self, key: str) -> Call | None:
        import ray

        call, failure = ray.get(self._keeper.get.remote(key))
        if failure:
            raise CallCacheFailed(failure)
        return call

    def put(self, key: str, model: str, call: Call, user: str | None = None) -> None:
        import ray

        if failure := ray.get(self._keeper.put.remote(key, model, call, user)):
            raise CallCacheFailed(failure)

    def __deepcopy__(self, memo: dict[int, Any]) -> "KeptCalls":
        return self  # optimizers copy programs, and with them their models


class KeptUsage(UsageLimiter):
    """The limiter of a worker, whose calls a keeper counts too: what a lost worker has spent is not lost."""

    def __init__(self, keeper: Any):
        super().__init__()
        self._keeper = keeper

    def done(self, usage: Usage) -> None:
        import ray

        super().done(usage)
        ray.get(self._keeper.count.remote(Usage(1, usage.prompt, usage.completion, usage.usd, usage.seconds), False))

    def replay(self, usage: Usage) -> None:
        import ray

        super().replay(usage)
        ray.get(self._keeper.count.remote(usage, True))


@contextmanager
def keeper_here(directory: Path | None, run: str, by_row: bool) -> Iterator[Any]:
    """A keeper on this machine, until the block ends; Ray starts it again if it is lost."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1, "scheduling_strategy": here}
    keeper = (
        ray.remote(Keeper)
        .options(**options, runtime_env=environment())
        .remote(directory and directory.absolute(), run, by_row)
    )
    try:
        yield keeper
        ray.get(keeper.close.remote())
    finally:
        ray.kill(keeper)
