"""What is written on a terminal, and what elsewhere."""

import io

import pytest
from rich.console import Console as Terminal

from programs.ui import console, terminal
from programs.ui.terminal import Line, call_lines, lines_of, print_lines

VARIABLES = ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM", "TTY_COMPATIBLE")


@pytest.fixture
def environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def change(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return change


def printed(lines, **options):
    file = io.StringIO()
    print_lines(lines, Terminal(file=file, width=40, **options))
    return file.getvalue()


def test_lines_are_styled_only_on_a_terminal(environment):
    environment(TERM="xterm-256color")
    assert printed([Line("so", "red")]) == "so\n"
    assert printed([Line("so", "red")], force_terminal=True) == "\x1b[31mso\x1b[0m\n"
    environment(NO_COLOR="1")
    assert printed([Line("so", "red")], force_terminal=True) == "so\n"


def test_lines_are_printed_literally(environment):
    text = "[bold red]it[/] :smile: [link=http://x]y[/link] " + "word " * 20
    assert printed([Line(text)]) == f"{text}\n"


@pytest.mark.parametrize(("isatty", "ruled"), [(True, True), (False, False)])
def test_tables_have_rules_only_on_a_terminal(environment, monkeypatch, isatty, ruled):
    environment(TERM="xterm")
    file = io.StringIO()
    file.isatty = lambda: isatty
    monkeypatch.setattr("sys.stdout", file)
    table = terminal.table("a", "b", title="[bold]t[/]")
    table.add_row("1", "2")
    terminal.output().print(table)
    text = file.getvalue()
    assert ("┃" in text) is ruled and ("\x1b" in text) is ruled
    if not ruled:
        assert [line.strip() for line in text.splitlines() if line.strip()] == [
            "t",
            "| a | b |",
            "|---|---|",
            "| 1 | 2 |",
        ]


@pytest.mark.parametrize(
    ("isatty", "name", "bars"), [(True, "xterm", True), (True, "dumb", False), (False, "xterm", False)]
)
def test_bars_only_on_a_terminal(environment, monkeypatch, isatty, name, bars):
    environment(TERM=name)
    file = io.StringIO()
    file.isatty = lambda: isatty
    monkeypatch.setattr("sys.stderr", file)
    monkeypatch.setattr(console, "_INTERVAL", 0.0)
    with console.Console() as reporter:
        tick = reporter.start("r2p [x]", 3, 1)
        tick()
        tick()
    assert ("\x1b[" in file.getvalue()) is bars
    if not bars:
        lines = ["r2p [x]: 3 examples, 1 of them done before", "r2p [x]: 2 of 3", "r2p [x]: 3 of 3"]
        assert file.getvalue().splitlines() == lines


def test_progress_lines_are_rare(environment, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    with console.Console() as reporter:
        tick = reporter.start("r2p", 1000, 0)
        for _ in range(1000):
            tick()
    assert len(file.getvalue().splitlines()) < 5


@pytest.mark.parametrize("verbose", [True, False])
def test_verbose_shows_first_calls(monkeypatch, verbose):
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    console.Console(verbose).call("r2p", [("system", "Be [b]brief[/b].\n  So."), ("user", "x\x1b[2Jy")], "yes")
    lines = ["── r2p: first call", "system:", "Be [b]brief[/b].", "  So.", "user:", "x\ufffd[2Jy", "answer:", "yes"]
    assert file.getvalue().splitlines() == ([*lines, "── r2p continues"] if verbose else [])


def test_optimizer_log_is_neutralized(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    console.Console().say("Proposed: [red]be\x1b[2J brief[/]")
    assert file.getvalue() == "Proposed: [red]be\ufffd[2J brief[/]\n"


def test_control_characters_are_neutralized():
    evil = "a\x1b]0;t\x07b\r\n\u202ec\ud800\n\n   d\te"
    printable = lines_of(evil) + call_lines(evil, [(evil, evil)], evil)
    assert all(line.text.isprintable() for line in printable) and printable[-2].text == "   d e"
