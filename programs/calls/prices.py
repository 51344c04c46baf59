"""What calls of a language model cost."""

from collections.abc import Mapping
from functools import lru_cache

from r2p_dspy.dspy_internals import model_info


def cost(model: str, tokens: Mapping[str, int]) -> float | None:
    """The price of `prompt` and `completion` tokens in US dollars; None where it is not known.

    Examples:
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
    """US dollars for a token of a prompt and of a completion."""
    if model.startswith("local/"):
        return 0.0, 0.0
    info = model_info(model)
    if "input_cost_per_token" not in info or "output_cost_per_token" not in info:
        return None
    return info["input_cost_per_token"], info["output_cost_per_token"]
