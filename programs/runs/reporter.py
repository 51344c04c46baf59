"""What a command reports while it works."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


class Reporter:
    """Takes a command's progress. This one is silent; the command line's shows it."""

    def start(self, name: str, total: int, done: int, unit: str = "examples") -> Callable[[], None]:
        """A program, or a training, begins. The function that is returned is called after each example, or step."""
        return lambda: None

    def say(self, line: str) -> None:
        """A line about what happens."""

    def call(self, name: str, messages: Sequence[tuple[str, str]], answer: str) -> None:
        """The first prompt of a program, as (role, text) of each message, and its answer."""

    def finish(self, report: Mapping[str, Any], directory: Path) -> None:
        """A report is ready, and is about to be written to its directory: the time to draw figures there."""
