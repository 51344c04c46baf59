"""The retriever protocol, and what a retriever matches: the query of a call, the text of an item."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dspy.adapters.utils import serialize_for_json

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile
from r2p_dspy.values.media import split_media

Query = str | Callable[[Mapping[str, Any]], str]
Text = tuple[str, ...] | Callable[[Item], str]


class Retriever(Protocol):
    """A function that chooses items for a query: `retriever(query, profile)` returns a profile, best item first.

    Three attributes are optional: `query`, what to make its query from (see `query_text`); `rank(query, profile)`,
    which returns all items as a list, best first (`Hybrid` uses it); and `matches(query, items)`, whether any of the
    items that it chose matches the query at all (if not, the prediction has a warning).
    """

    def __call__(self, query: str, profile: Profile) -> Profile: ...


def query_text(inputs: Mapping[str, Any], query: Query | None = None) -> str:
    """Make the query from a module's inputs: all text inputs joined, the field named, or what the function returns.

    Images, recordings and files are no part of it.

    Examples:
        >>> query_text({"article": "Rain in May.", "tone": "dry", "profile": Profile()})
        'Rain in May. dry'
    """
    if query is None:
        return " ".join(value for value in inputs.values() if isinstance(value, str))
    if callable(query):
        return query(inputs)
    if query not in inputs:
        raise ConfigError(f"the retriever's query names the field {query!r}; the inputs are {', '.join(inputs)}")
    value = serialize_for_json(inputs[query])
    text, media = split_media(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    if media and not text.strip():
        raise ConfigError(f"the retriever's query names the field {query!r}, which has no text; name one that has")
    return text


def item_text(item: Item, text: Text | None = None) -> str:
    """Make the text of an item that a query is matched with: all its text, the fields named, or the function's.

    Examples:
        >>> item_text(Item(id="7", title="Rain", text="It rained."), ("title",))
        'Rain'
    """
    if text is None:
        return item.text
    if callable(text):
        return text(item)
    return " ".join(item.fields.get(name, "") for name in text)


def matches(retriever: Retriever, query: str, items: Profile) -> bool:
    """Whether any of these items matches the query, as far as the retriever says."""
    ask: Callable[[str, Profile], bool] | None = getattr(retriever, "matches", None)
    return ask is None or ask(query, items)


def check_k(k: int) -> None:
    """Refuse a `k` that is no number of items."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise ConfigError(f"k is the number of items to retrieve, an integer of at least 0, not {k!r}")
