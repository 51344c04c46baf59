"""Media among a prompt's texts: images, recordings and files, which DSPy carries as base64 or addresses."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import regex
from dspy.adapters.types.base_type import (
    CUSTOM_TYPE_END_IDENTIFIER,
    CUSTOM_TYPE_START_IDENTIFIER,
    split_message_content_for_custom_types,
)

# A photo takes up to about 1,600 tokens with Claude, 1,445 with GPT-4o and 258 a tile with Gemini; a minute of sound
# 1,920 with Gemini; a page of a PDF 1,500 to 3,000 with Claude. The length of its base64 says nothing of that.
MEDIUM_TOKENS = 1600

_MARKED = regex.compile(f"{CUSTOM_TYPE_START_IDENTIFIER}.*?{CUSTOM_TYPE_END_IDENTIFIER}", regex.DOTALL)

Content = str | Sequence[Mapping[str, Any]]  # what a message holds: text, or content parts


def text_and_media(content: Content) -> tuple[str, int]:
    """Split a message's content into its text and the number of its media.

    Examples:
        >>> text_and_media([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "…"}}])
        ('What is it?', 1)
    """
    if isinstance(content, str):
        return content, 0
    texts = [_text(part) for part in content]
    return "".join(text for text in texts if text is not None), texts.count(None)


def split_media(text: str) -> tuple[str, int]:
    """Split a field's rendered value, which holds media between DSPy's markers, into its text and their number.

    Examples:
        >>> import dspy
        >>> split_media(f"a photo: {dspy.Image('https://example.org/cat.png')}")
        ('a photo: ', 1)
    """
    if CUSTOM_TYPE_START_IDENTIFIER not in text:
        return text, 0
    [message] = split_message_content_for_custom_types([{"role": "user", "content": text}])
    return text_and_media(message["content"])


def check_inline(value: Any) -> None:
    """Refuse a value, rendered or not, that holds a medium by its address, which someone would fetch, or damaged data.

    Raises:
        ValueError: what is wrong with it.

    Examples:
        >>> import dspy
        >>> check_inline("see https://example.org")
        >>> check_inline(str(dspy.Image("https://example.org/cat.png")))
        Traceback (most recent call last):
        ValueError: a medium is an address, which no file may choose; compile with media that hold data
    """
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            check_inline(part)
    if not isinstance(value, str) or CUSTOM_TYPE_START_IDENTIFIER not in value:
        return
    [message] = split_message_content_for_custom_types([{"role": "user", "content": value}])
    parts = [part for part in message["content"] if not isinstance(part, Mapping) or part.get("type") != "text"]
    for text in _leaves(parts):
        if "://" in text:
            raise ValueError("a medium is an address, which no file may choose; compile with media that hold data")
        if text.startswith("data:"):
            base64.b64decode(text.partition(",")[2], validate=True)


def _leaves(value: Any) -> Iterator[str]:
    """Every text in a piece of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)


def without_media(text: str) -> str:
    """Put a short mark in the place of each medium in a rendered text, JSON or not."""
    return _MARKED.sub("[medium]", text) if CUSTOM_TYPE_START_IDENTIFIER in text else text


def _text(part: Mapping[str, Any]) -> str | None:
    """The text of a content part; None for a medium."""
    if part.get("type") == "text":
        return str(part.get("text", ""))
    source = part.get("source")
    if isinstance(source, Mapping) and source.get("type") == "text":  # a plain document
        return " ".join(str(value) for value in (part.get("title"), part.get("context"), source.get("data")) if value)
    return None
