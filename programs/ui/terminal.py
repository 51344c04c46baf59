"""Print tables and texts: styled on a terminal, plain lines elsewhere. Rich honours NO_COLOR and TERM=dumb."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rich import box
from rich.console import Console as Terminal
from rich.table import Table
from rich.text import Text

from programs.text import one_line

_WIDTH = 160  # columns where there is no terminal, such as in a file or a log


class Line(NamedTuple):
    """A line of text and its rich style. The text holds nothing that a terminal obeys (see `one_line`)."""

    text: str
    style: str = ""


def output() -> Terminal:
    """The console for stdout."""
    terminal = Terminal()
    return terminal if terminal.is_terminal else Terminal(width=_WIDTH)


def moves(terminal: Terminal) -> bool:
    """Whether bars can be drawn: the terminal can overwrite a line."""
    return terminal.is_terminal and not terminal.is_dumb_terminal


def table(*headers: str, title: str | None = None) -> Table:
    """An empty table: with rules on a terminal, in Markdown elsewhere. The title is markup."""
    rules = box.HEAVY_HEAD if Terminal().is_terminal else box.MARKDOWN
    return Table(*headers, title=title, title_justify="left", box=rules)


def print_lines(lines: Iterable[Line], terminal: Terminal | None = None) -> None:
    """Print lines literally, to stdout by default: markup in them has no effect, and long lines are not wrapped."""
    terminal = terminal or output()
    for line in lines:
        terminal.print(Text(line.text, style=line.style), soft_wrap=True)


def print_texts(texts: Iterable[str]) -> None:
    """Print each text as one line to stdout, whatever is in it."""
    print_lines(Line(one_line(text)) for text in texts)


def lines_of(text: str, style: str = "") -> list[Line]:
    """Split a stranger's text into lines that are safe to print, and keep their indentation.

    Examples:
        >>> [line.text for line in lines_of("so \\x1b[2J it\\n  rained")]
        ['so �[2J it', '  rained']
    """
    indented = [(len(line) - len(line.lstrip(" ")), line) for line in text.splitlines()]
    return [Line(" " * indent + one_line(line), style) for indent, line in indented]


def call_lines(name: str, messages: Iterable[Any], answer: str) -> list[Line]:
    """Format a program's request to a model, as (role, text) of each message, and the answer."""
    lines = [Line(one_line(f"── {name}: first call"), "bold")]
    for role, text in messages:
        lines += [Line(one_line(f"{role}:"), "bold"), *lines_of(text, "dim")]
    return [*lines, Line("answer:", "bold"), *lines_of(answer), Line(one_line(f"── {name} continues"), "bold")]


def interval_text(interval: Mapping[str, float], sign: str = "") -> str:
    """A value and its interval to three digits, each with a sign if `sign` is "+".

    Examples:
        >>> interval_text({"value": 0.9, "low": 0.85, "high": 0.95})
        '0.900 [0.850, 0.950]'
    """
    return f"{interval['value']:{sign}.3f} [{interval['low']:{sign}.3f}, {interval['high']:{sign}.3f}]"
