"""Where tables and texts go: styled on a terminal, plain lines elsewhere; rich honours NO_COLOR and TERM=dumb."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from rich import box
from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from programs.text import one_line

_ELSEWHERE = 160  # columns of what is no terminal, such as a file or a log


class Line(NamedTuple):
    """A line of text, in which nothing is left that a terminal obeys, and how rich styles it."""

    text: str
    style: str = ""


def output() -> Terminal:
    """What is written to stdout."""
    terminal = Terminal()
    return terminal if terminal.is_terminal else Terminal(width=_ELSEWHERE)


def moves(terminal: Terminal) -> bool:
    """Whether bars can be drawn: a terminal on which a line can be written again."""
    return terminal.is_terminal and not terminal.is_dumb_terminal


def table(*headers: str, title: str | None = None) -> Table:
    """A table: with rules on a terminal, plain lines that Markdown takes for a table elsewhere.

    Args:
        headers: of its first columns.
        title: above it, in rich's markup.
    """
    rules = box.HEAVY_HEAD if Terminal().is_terminal else box.MARKDOWN
    return Table(*headers, title=title, title_justify="left", box=rules)


def print_lines(lines: Iterable[Line], terminal: Terminal | None = None) -> None:
    """Print lines as they are; no markup in them is obeyed.

    Args:
        lines: what to print.
        terminal: where; default: stdout.
    """
    terminal = terminal or output()
    for line in lines:
        terminal.print(Text(line.text, style=line.style), soft_wrap=True)


def lines_of(text: str, style: str = "") -> list[Line]:
    """A stranger's text, line by line, with nothing in it that a terminal obeys.

    Example:
        >>> [line.text for line in lines_of("so \\x1b[2J it\\n  rained")]
        ['so �[2J it', '  rained']
    """
    indented = [(len(line) - len(line.lstrip(" ")), line) for line in text.splitlines()]
    return [Line(" " * indent + one_line(line), style) for indent, line in indented]


def call_lines(name: str, messages: Iterable[Any], answer: str) -> list[Line]:
    """A request to a model and its answer, as a person reads them.

    Args:
        name: of the program that asked.
        messages: (role, text) of each message.
        answer: what the model wrote.
    """
    lines = [Line(one_line(f"── {name}: its first call"), "bold")]
    for role, text in messages:
        lines += [Line(one_line(f"{role}:"), "bold"), *lines_of(text, "dim")]
    return [*lines, Line("answer:", "bold"), *lines_of(answer), Line(one_line(f"── {name} goes on"), "bold")]
