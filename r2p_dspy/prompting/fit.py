"""Fits a prompt to the model's context: shortens items, the longest first, never the question or the template.

Images, recordings and files count by a flat allowance of tokens each (`values/media.py`).
"""

import math
from typing import Any

import dspy
from dspy.adapters import Adapter

from r2p_dspy.engines.connect import context_window, count_tokens
from r2p_dspy.profile import Item, Profile
from r2p_dspy.values.media import MEDIUM_TOKENS, text_and_media

_RESERVED = 512  # tokens for the answer where the LM states no `max_tokens`
_SHORTEST = 60  # characters; an item this short is dropped rather than cut
_LONGEST_WORD = 40  # characters
_OVERHEAD = 8  # tokens of chat markup a message


def shorten(
    lm: Any,
    adapter: Adapter,
    signature: type[dspy.Signature],
    demos: list[dict[str, Any]],
    inputs: dict[str, Any],
    profile: str,
    items: Profile,
    max_tokens: int | None = None,
) -> tuple[Profile, list[dict[str, Any]], int]:
    """Drop demos and shorten items until the prompt fits.

    Args:
        lm: the language model, or None.
        adapter, signature, inputs: make the prompt; only the profile input is changed.
        demos: complete demos; the last ones are dropped first.
        profile: the name of the profile input.
        items: the items to show.
        max_tokens: the limit of this call's answer in tokens; default: the LM's own, else 512.

    Returns:
        The items and the demos to show, and the number of characters cut from the items.
    """
    window = context_window(lm) if hasattr(lm, "engine") else None  # a user's own `BaseLM` does not say
    if window is None:
        return items, demos, 0
    reserved = max_tokens or (getattr(lm, "kwargs", {}) or {}).get("max_tokens") or _RESERVED
    budget = window - min(reserved, window // 2)

    def excess(shown: Profile, used: list[dict[str, Any]]) -> int:
        messages = adapter.format(signature, used, {**inputs, profile: shown})
        contents = [text_and_media(message["content"]) for message in messages]
        texts = [text for text, _ in contents]
        fixed: int = sum(media for _, media in contents) * MEDIUM_TOKENS + len(texts) * _OVERHEAD
        # A token has at least one byte, so a prompt of few bytes fits; most calls end here without being counted.
        if fixed + sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) <= budget:
            return 0
        return fixed + sum(count_tokens(lm, text) for text in texts) - budget

    while (over := excess(items, demos)) > 0 and demos:
        demos = demos[:-1]
    truncated = 0
    while over > 0 and items:
        text = str(items)
        items, characters = _cut(items, math.ceil(over * len(text) / max(1, count_tokens(lm, text))))
        truncated += characters
        over = excess(items, demos)
    return items, demos, truncated


def _cut(items: Profile, wanted: int) -> tuple[Profile, int]:
    """Cut that many characters, each time from the item that is then the longest; or all there are."""
    kept, truncated = list(items), 0
    while truncated < wanted and kept:
        longest = max(range(len(kept)), key=lambda index: len(kept[index].text))
        shorter, characters = _shorter(kept[longest], wanted - truncated)
        kept[longest : longest + 1] = [] if shorter is None else [shorter]
        truncated += characters
    return Profile(items=kept), truncated


def _shorter(item: Item, wanted: int) -> tuple[Item | None, int]:
    """The item with its longest field cut by up to half, or None when it is too short to cut."""
    name = max(item.fields, key=lambda field: len(item.fields[field]))
    text = item.fields[name]
    keep = max(_SHORTEST, len(text) - min(len(text) // 2, wanted))
    words = text[:keep].rsplit(" ", 1)[0]  # not far behind, unless the script has no spaces
    fields = {**item.fields, name: words if words and keep - len(words) <= _LONGEST_WORD else text[:keep]}
    if len(text) <= _SHORTEST or not "".join(fields.values()).strip():
        return None, len(item.text)
    return item.model_copy(update={"fields": fields}), len(text) - len(fields[name])
