"""Asking for examples on a Ray cluster. Rows go to workers and come back, and this process alone writes."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dspy

from programs.calls.keeping import CallKeeping
from programs.calls.usage import UsageLimiter
from programs.cluster.connecting import absolute, check_installed, check_nodes, connected, weights_of
from programs.cluster.keeper import keeper_here
from programs.cluster.mapping import capacity, mapped, pool
from programs.cluster.row_worker import Asking, RowWorker, look_at_programs
from programs.tasks.task_file import file_module
from r2p_dspy.errors import ConfigError


@contextmanager
def reached(address: str, asking: Asking, tasks: Sequence[str], programs: Any) -> Iterator["Cluster"]:
    """A Ray cluster that can run programs, until the block ends.

    Its nodes need what the command needs, apart from data and task files, and see no file of the run.

    Args:
        address: of the cluster, see `connecting.connected`.
        asking: which model its workers ask.
        tasks: names or files of the tasks of the programs.
        programs: what workers will be sent.

    Raises:
        ConfigError: one line: Ray is missing, nothing answers at the address, or a node cannot do the work.
    """
    check_installed()
    asking = replace(asking, model=absolute(asking.model))
    with connected(address):
        contents = packed(programs, tasks)
        weights = check_nodes(asking.model, partial(look_at_programs, contents))
        if weights != (own := weights_of(asking.model)):
            raise ConfigError(f"the nodes have other weights of model {asking.model.name!r}: {weights}, not {own}")
        yield Cluster(asking)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that was looked at; see `reached`."""

    asking: Asking

    @contextmanager
    def each(self, limiter: UsageLimiter, calls: CallKeeping, run: str) -> Iterator["OnRay"]:
        """Ask on the cluster, until the block ends.

        Args:
            limiter: gets what the calls of workers took.
            calls: how they are kept.
            run: the id under which they are kept.
        """
        with keeper_here(calls.directory, run, calls.by_row) as keeper:
            yield OnRay(self.asking, keeper, None if calls.directory is None else calls.by_row, limiter)


@dataclass(frozen=True)
class OnRay:
    """Asks in the workers of a cluster; see `programs.calls.asking.Each`.

    A lost worker is replaced, and asked again for the rows that it had.
    """

    asking: Asking
    keeper: Any
    by_row: bool | None
    limiter: UsageLimiter

    def __call__(
        self,
        name: str,
        ask: Callable[[dspy.Example], Any],
        examples: Sequence[dspy.Example],
        end: Callable[[Any], None],
    ) -> None:
        import ray
        from ray import cloudpickle

        room, needs = capacity(gpus=self.asking.model.in_process)
        workers, threads = min(self.asking.workers or room, len(examples)), self.asking.threads
        arguments = name, self.asking, [ray.put(cloudpickle.dumps(ask))], self.keeper, self.by_row
        given = ({"example": cloudpickle.dumps(example)} for example in examples)
        outcomes = mapped(
            given,
            RowWorker,
            {**needs, "max_concurrency": threads},
            compute=pool(workers, threads),
            fn_constructor_args=arguments,
        )
        with closing(outcomes):
            for outcome in outcomes:
                if outcome["error"]:
                    raise pickle.loads(outcome["error"])  # nosec B301  # of our own workers
                end(pickle.loads(outcome["outcome"]))  # nosec B301
        self.limiter.include(*ray.get(self.keeper.take.remote()))


def packed(programs: Any, tasks: Sequence[str]) -> bytes:
    """Pickled programs. What a user's own file defines is sent whole, so that no node needs the file."""
    from ray import cloudpickle

    for module in filter(None, map(file_module, tasks)):
        cloudpickle.register_pickle_by_value(module)
    try:
        contents: bytes = cloudpickle.dumps(programs)
    except Exception as error:
        raise ConfigError(f"--ray: the programs cannot be sent to workers ({type(error).__name__}: {error})") from None
    return contents
