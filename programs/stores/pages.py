"""The pages of runs, whose texts are packed, so that nobody who looks for a text in the file finds it."""

import html
from pathlib import Path

from programs.report_html.embedding import embedded, without_embedded
from programs.report_html.page import write_page
from programs.stores.texts import UserTexts
from r2p_dspy.errors import RunError


def shows(page: Path, user: str, texts: UserTexts) -> bool:
    """Whether a page lists a user, or shows a text of theirs; also where what it has packed cannot be read."""
    source = page.read_text(encoding="utf-8", errors="replace")
    try:
        data = embedded(source)
        index = data.get("index", [])
        if any(user in task["users"] for task in index) or any(map(texts.are_in, data.values())):
            return True
    except (ValueError, LookupError, TypeError):
        return True
    return texts.stand_in(html.unescape(without_embedded(source)))


def made_again(page: Path, user: str, texts: UserTexts) -> str:
    """Make a page again from what is left of its run, or else remove it; returns what was done, for a person."""
    try:
        if not (page.parent / "report.json").is_file():
            raise RunError("there is no report.json")
        write_page(page.parent)
        problem = "the run's files still show the user" if shows(page, user, texts) else ""
    except RunError as error:
        problem = str(error)
    except Exception as error:  # whatever is wrong with the run: a page that shows the user may not stay
        problem = " ".join(f"{type(error).__name__}: {error}".split())[:120]
    if not problem:
        return "made again, without the user"
    page.unlink(missing_ok=True)
    return f"removed, since it cannot be made again ({problem})"
