"""What a call costs."""

from collections.abc import Mapping
from functools import lru_cache


def cost(model: str, tokens: Mapping[str, int]) -> float | None:
    """The price of a call, or of many.

    Args:
        model: a model's name as its `dspy.LM` has it.
        tokens: of the `prompt` and of the `completion`.

    Returns:
        US dollars; nothing for a model in this process, and None where the price is not known.

    Example:
        >>> cost("local/pocket-1", {"prompt": 1000, "completion": 100})
        0.0
    """
    prices = _prices(model)
    return None if prices is None else tokens["prompt"] * prices[0] + tokens["completion"] * prices[1]


def priced(model: str) -> bool:
    """Whether the price of a model's calls is known."""
    return _prices(model) is not None


@lru_cache(maxsize=64)
def _prices(model: str) -> tuple[float, float] | None:
    provider, _, name = model.partition("/")
    if provider == "local":
        return 0.0, 0.0
    from dspy.clients.model_metadata import model_info

    known = model_info(provider, name)
    if "input_cost_per_token" not in known or "output_cost_per_token" not in known:
        return None
    return known["input_cost_per_token"], known["output_cost_per_token"]
