"""Chromium, for tests and benchmarks of pages: Debian's, or the one that CHROMIUM names."""

import os
import shutil
from contextlib import contextmanager


def missing():
    """Why no page can be opened here; None if one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "Playwright is not installed: pip install '.[browser]'"
    if executable() is None:
        return "there is no Chromium: apt-get install chromium, or name one in CHROMIUM"
    return None


def executable():
    """The path of Chromium; None if there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium():
    """A browser without windows."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])  # CI runs as root
        try:
            yield browser
        finally:
            browser.close()
