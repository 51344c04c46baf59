"""Filling a page's template: one file with its style and its script, which asks for nothing."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from programs.report_html.embedding import content_hash
from r2p_dspy.values.lines import visible

_FOLDER = Path(__file__).parent / "templates"


def rendered(name: str, *, styles: Sequence[str] = ("page.css",), script: str = "browser.js", **values: Any) -> str:
    """A page of the template with this name; every text of `values` is escaped, except for `Markup`.

    Args:
        name, styles, script: files in `templates/`. The page allows these styles and this script alone.
        values: what the template shows.
    """
    style, code = "".join(map(_source, styles)), _source(script)
    hashes = {"style": content_hash(style), "script": content_hash(code)}
    # The files of this package are ours; every other text is escaped.
    sources = {"style": Markup(style), "script": Markup(code)}  # nosec B704
    return _template(name).render(**values, **sources, hashes=hashes) + "\n"


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    return environment.get_template(name)


@cache
def _source(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    """What a template prints: texts without characters that a page obeys."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else visible(value)
