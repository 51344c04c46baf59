"""Chromium, for tests and benchmarks of pages: Debian's, or the one that CHROMIUM names."""

import os
import shutil
from contextlib import contextmanager

# Texts whose colour has less contrast to what lies behind them than 4.5 to 1 (WCAG 2.2, AA).
CONTRAST = """() => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = ([red, green, blue]) => {
        const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        return 0.2126 * part(red) + 0.7152 * part(green) + 0.0722 * part(blue);
    };
    const behind = (element) => {
        for (let each = element; each; each = each.parentElement) {
            const colour = numbers(getComputedStyle(each).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const weak = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || element.closest("script, style, datalist, option") || !element.getClientRects().length) continue;
        const style = getComputedStyle(element), svg = element.closest("svg");
        const [text, ground] = [light(numbers(svg ? style.fill : style.color)), light(behind(element))];
        const ratio = (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
        if (ratio < 4.5) weak.push(`${element.localName}.${element.getAttribute("class")} ${ratio.toFixed(2)}`);
    }
    return [...new Set(weak)];
}"""
# Labels of a chart that lie upon each other, or reach out of it.
OVERLAPS = """() => {
    const found = [];
    for (const svg of document.querySelectorAll(".chart > svg")) {
        const edge = svg.getBoundingClientRect();
        const boxes = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
        boxes.forEach(([name, box], index) => {
            if (box.left < edge.left - 2 || box.right > edge.right + 2) found.push(`${name} reaches out`);
            for (const [other, that] of boxes.slice(index + 1)) {
                const beside = box.right <= that.left || that.right <= box.left;
                const above = box.bottom <= that.top + 3 || that.bottom <= box.top + 3;
                if (!beside && !above) found.push(`${name} on ${other}`);
            }
        });
    }
    return found;
}"""


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
