"""What asks for single rows in a cluster's workers. What becomes of a row goes back as data."""

import pickle
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dspy

from programs.calls.asking import asked
from programs.calls.cache import CallCacheFailed
from programs.calls.patience import MAX_FAILURES, CallFailures, RunStopped
from programs.calls.recording import record_calls
from programs.cluster.errors import as_bytes
from programs.cluster.keeper import KeptCalls, KeptUsage
from programs.runs.model import ModelConfig
from r2p_dspy.errors import ConfigError, RunError

Batch = dict[str, Any]  # columns of one row each, as Ray Data gives them


@dataclass(frozen=True)
class Asking:
    """Which model workers ask, and how.

    Args:
        model: which model.
        how: arguments of `ModelConfig.connect`, apart from `cache`.
        threads: calls that each worker keeps in flight.
        workers: how many workers there are; None for one for each CPU, or for each GPU that a model in process needs.
        max_failures: the share of the calls of a worker that may fail, see `CallFailures`.
    """

    model: ModelConfig
    how: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 16
    workers: int | None = None
    max_failures: float = MAX_FAILURES


class RowWorker:
    """Asks for rows, several at a time; Ray Data makes one in each of its actors.

    Args:
        name: what the rows are asked for.
        asking: which model it asks.
        ask: holds the place in Ray's store of the pickled function that takes an example.
        keeper: keeps and counts its calls, see `Keeper`.
        by_row: see `CallCache`; None keeps no calls.
    """

    def __init__(self, name: str, asking: Asking, ask: Sequence[Any], keeper: Any, by_row: bool | None):
        self._name, self._asking, self._packed_ask = name, asking, ask
        self._calls = None if by_row is None else KeptCalls(keeper, by_row)
        self._limiter, self._lock = KeptUsage(keeper), threading.Lock()
        self._made: tuple[Any, dspy.LM] | None = None  # when it is needed, so that its errors go back as data too

    def __call__(self, batch: Batch) -> Batch:
        try:
            ask, lm = self._ready()
            example = pickle.loads(batch["example"][0])  # nosec B301  # the driver's
            with self._asking.model.asking(lm):
                return {"outcome": [pickle.dumps(asked(self._name, ask, example))], "error": [b""]}
        except RunStopped as stopped:
            failure = stopped.error
        except CallCacheFailed as failed:
            failure = RunError(str(failed))
        except Exception as error:
            failure = error
        return {"outcome": [b""], "error": [as_bytes(failure)]}

    def _ready(self) -> tuple[Any, dspy.LM]:
        """The function, and the model that it asks."""
        import ray

        with self._lock:
            if self._made is None:
                ask = pickle.loads(ray.get(self._packed_ask[0]))  # nosec B301  # the driver's
                lm = self._asking.model.connect(cache=False, **self._asking.how)
                failures = CallFailures(self._limiter, lm.model, self._asking.max_failures)
                self._made = ask, record_calls(lm, self._calls, self._limiter, failures)
            return self._made


def look_at_programs(packed: bytes) -> None:
    """Refuse a node that lacks what programs are made of; runs there."""
    try:
        pickle.loads(packed)  # nosec B301  # the driver's
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"it lacks the package {error.name}; install what the driver has, or share its checkout"
        ) from None
    except Exception as error:
        raise ConfigError(f"it cannot load the programs ({type(error).__name__}: {error})") from None
