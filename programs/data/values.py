"""Ids, dates and texts as data files have them."""

import re
from typing import Any

_SURROGATES = re.compile(r"[\ud800-\udfff]")


def repair_text(text: str) -> str:
    """Replace lone surrogates, which broken JSON has and no model takes, by the replacement character.

    Examples:
        >>> repair_text("so\\ud83d it rained")
        'so� it rained'
    """
    return _SURROGATES.sub("\ufffd", text)


def row_id(data: Any) -> str | None:
    """The id of a row, a gold or an item, which may be text or a whole number; None if it has none.

    Examples:
        >>> row_id({"id": 7}), row_id({"id": True}), row_id([])
        ('7', None, None)
    """
    value = data.get("id") if isinstance(data, dict) else None
    return None if isinstance(value, bool) or not isinstance(value, str | int) or value == "" else str(value)


def item_date(value: Any) -> str | None:
    """The date of an item; None for a value without a digit, such as the text "None" that some files have."""
    text = str(value) if isinstance(value, str | int | float) else ""
    return text if any(map(str.isdigit, text)) else None
