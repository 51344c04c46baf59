"""Progress while a command works: bars on a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from programs.runs.reporter import Reporter
from programs.text import one_line
from programs.ui.plots import draw
from programs.ui.private_logs import keyless_logs, private_logs
from programs.ui.report_table import print_report
from programs.ui.terminal import Line, call_lines, moves, print_lines
from r2p_dspy.engines.keys import without_credentials

_MAX_BARS = 12  # finished programs whose bars stay on the screen
_INTERVAL = 30.0  # seconds between two lines of progress where no bar can be drawn
_OPTIMIZER_NOISE = ("Bootstrapped", "Average", "Scores so far", "Best score", "Going", "Will")


class Console(Reporter):
    """Shows progress on stderr; `verbose` adds the optimizer's log, and each program's first prompt and answer.

    No line holds a key. Without `verbose`, no log line holds a user's text (see `private_logs`).
    """

    def __init__(self, verbose: bool = False):
        self.verbose = verbose
        if not verbose:  # DSPy logs every truncated answer and every evaluation; the report counts them
            logging.getLogger("dspy").setLevel(logging.ERROR)
        self.logs = ExitStack()
        self.terminal = Terminal(stderr=True)
        self.moves = moves(self.terminal)
        self.bars = Progress(
            TextColumn("{task.description:<18}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.terminal,
            disable=not self.moves,
        )

    def __enter__(self) -> "Console":
        self.logs.enter_context(keyless_logs() if self.verbose else private_logs())
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()
        self.logs.close()

    def start(self, name: str, total: int, done: int, unit: str = "examples") -> Callable[[], None]:
        if not self.moves:
            before = f", {done} of them done before" if done else ""
            self.terminal.print(f"{name}: {total} {unit}{before}", markup=False)
            return self._lines(name, total, done)
        for bar in [bar for bar in self.bars.tasks if bar.finished][:-_MAX_BARS]:
            self.bars.update(bar.id, visible=False)
        new = self.bars.add_task(name, total=total, completed=done)
        return lambda: self.bars.advance(new)

    def _lines(self, name: str, total: int, done: int) -> Callable[[], None]:
        """Print a line of progress every `_INTERVAL` seconds."""
        printed = time.monotonic()

        def tick() -> None:
            nonlocal done, printed
            done += 1
            if time.monotonic() - printed >= _INTERVAL:
                printed = time.monotonic()
                self.terminal.print(f"{name}: {done} of {total}", markup=False)

        return tick

    def call(self, name: str, messages: Sequence[tuple[str, str]], answer: str) -> None:
        if self.verbose:
            print_lines(call_lines(name, messages, without_credentials(answer)), self.terminal)

    def say(self, line: str) -> None:
        if self.verbose or not line.startswith(_OPTIMIZER_NOISE):
            print_lines(
                [Line(one_line(without_credentials(line)), "dim")], self.terminal
            )  # an optimizer's lines quote what a model wrote

    def finish(self, report: Mapping[str, Any], directory: Path) -> None:
        draw(report, directory)

    def table(self, report: Mapping[str, Any], directory: Path) -> None:
        """Print the report; see `print_report`."""
        print_report(report, directory)
