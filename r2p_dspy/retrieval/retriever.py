"""What a retriever is, and what it matches: the query of a call, the text of an item."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from r2p_dspy.errors import ConfigError
from r2p_dspy.profile import Item, Profile

Query = str | Callable[[Mapping[str, Any]], str]


Text = tuple[str, ...] | Callable[[Item], str]


class Retriever(Protocol):
    """Anything that picks items for a query: `retriever(query, profile)` returns them best first, as a profile.

    It may also have `query`, what to make its query from (see `query_text`), and `rank(query, profile)`, which gives
    all items as a list, best first: by that `Hybrid` joins it with others.
    """

    def __call__(self, query: str, profile: Profile) -> Profile: ...


def query_text(inputs: Mapping[str, Any], query: Query | None = None) -> str:
    """What to retrieve with, from a module's inputs.

    Args:
        inputs: the module's inputs by name.
        query: a field's name, or a function of the inputs; None joins all text inputs by a space.

    Returns:
        The query.

    Raises:
        ValueError: when `query` names a field that is not among the inputs.

    Example:
        >>> query_text({"article": "Rain in May.", "tone": "dry", "profile": Profile()})
        'Rain in May. dry'
    """
    if query is None:
        return " ".join(value for value in inputs.values() if isinstance(value, str))
    if callable(query):
        return query(inputs)
    if query not in inputs:
        raise ConfigError(f"the retriever's query names the field {query!r}; the inputs are {', '.join(inputs)}")
    return str(inputs[query])


def item_text(item: Item, text: Text | None = None) -> str:
    """What of an item to match.

    Args:
        item: any item.
        text: names of its fields, joined by a space, or a function of the item; None takes all its text.

    Returns:
        The text; a field that the item does not have counts as empty.

    Example:
        >>> item_text(Item(id="7", title="Rain", text="It rained."), ("title",))
        'Rain'
    """
    if text is None:
        return item.text
    if callable(text):
        return text(item)
    return " ".join(item.fields.get(name, "") for name in text)


def check_k(k: int) -> None:
    """Refuse what is no number of items."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise ConfigError(f"k is how many items to retrieve, a whole number of at least 0, not {k!r}")
