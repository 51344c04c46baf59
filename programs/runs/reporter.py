"""Who is told what an experiment does."""

from collections.abc import Callable, Sequence


class Reporter:
    """What an experiment tells while it runs; the command line shows it, tests and notebooks may keep silent."""

    def start(self, name: str, total: int, done: int, unit: str = "examples") -> Callable[[], None]:
        """A program, or a training, begins; what is returned is called after each example, or step."""
        return lambda: None

    def say(self, line: str) -> None:
        """A line about what happens."""

    def call(self, name: str, messages: Sequence[tuple[str, str]], answer: str) -> None:
        """The first prompt of a program, as (role, text) of each message, and its answer."""
