"""Finding a run's page, and opening it where there is a browser to open it in."""

import os
import sys
import webbrowser
from pathlib import Path

from programs.report_html.page import PAGE, write_page
from r2p_dspy.errors import RunError


def page_of(directory: Path) -> Path | None:
    """The page of a run's directory, made now if it is missing; None for what is no run's directory.

    Raises:
        RunError: the run is not finished, and has no compiled program to be shown either.
    """
    if not (directory / "config.json").is_file():
        return None
    if (directory / PAGE).is_file():
        return directory / PAGE
    if (directory / "report.json").is_file():
        return write_page(directory)
    if (directory / "program.json").is_file():
        return None
    raise RunError(f"{directory} holds an unfinished run; finish it with the same command and --resume")


def opened(page: Path) -> bool:
    """Open a page in the user's browser, and say whether that was done.

    Nothing is opened where output is no terminal, such as in a script, and where there is no display: a browser for
    text would take the terminal over.
    """
    if not sys.stdout.isatty() or not _has_display():
        return False
    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False


def _has_display() -> bool:
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
