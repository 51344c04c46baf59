"""Who is told what an experiment does."""

from collections.abc import Callable, Sequence


class Reporter:
    """What an experiment tells while it runs; the command line shows it, tests and notebooks may keep silent."""

    def start(self, name: str, total: int, done: int) -> Callable[[], None]:
        """A program begins; what is returned is called after each example."""
        return lambda: None

    def say(self, line: str) -> None:
        """A line about what happens."""

    def call(self, name: str, messages: Sequence[tuple[str, str]], answer: str) -> None:
        """The first prompt of a program, as (role, text) of each message, and its answer."""
