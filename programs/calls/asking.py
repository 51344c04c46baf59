"""Asking for each of many examples: by threads of this process, or wherever an `Each` does it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import dspy
from dspy.utils.parallelizer import ParallelExecutor

from programs.calls.rows import answering

OutcomeT = TypeVar("OutcomeT")


class Each(Protocol):
    """How, and where, a function is called with each of some examples."""

    def __call__(
        self,
        name: str,
        ask: Callable[[dspy.Example], Any],
        examples: Sequence[dspy.Example],
        end: Callable[[Any], None],
    ) -> None:
        """Call a function with each of the examples, see `asked`.

        Args:
            name: what the examples are asked for.
            ask: the function.
            examples: at least one.
            end: takes each outcome as soon as it is there, in this process; several threads may call it.

        Raises:
            Exception: the first one of `ask`, or of `end`. No further example is asked then.
        """


def asked(name: str, ask: Callable[[dspy.Example], OutcomeT], example: dspy.Example) -> OutcomeT:
    """The outcome of an example. Its calls are kept under the name, the example and its user."""
    with answering(name, example.id, user=example.get("user") or example.id):
        return ask(example)


@dataclass(frozen=True)
class InThreads:
    """Asks in threads of this process; see `Each`.

    Args:
        threads: examples that are asked at a time.

    Examples:
        >>> ends = []
        >>> InThreads(2)("numbers", lambda example: 2 * example.n, [dspy.Example(id="a", n=4)], ends.append)
        >>> ends
        [8]
    """

    threads: int

    def __call__(
        self,
        name: str,
        ask: Callable[[dspy.Example], Any],
        examples: Sequence[dspy.Example],
        end: Callable[[Any], None],
    ) -> None:
        failures: list[Exception] = []

        def run(example: dspy.Example) -> None:
            try:
                end(asked(name, ask, example))
            except Exception as error:
                failures.append(error)
                raise

        executor = ParallelExecutor(num_threads=self.threads, max_errors=1, disable_progress_bar=True, timeout=0)
        try:
            executor.execute(run, [*examples])
        except KeyboardInterrupt:
            raise
        except Exception as stopped:
            first = failures[0] if failures else stopped
            raise first from first.__cause__  # which is the user's own failure, if a check failed
