"""What is known of a model by its name: how its makers sample from it, what its API refuses, whether it shows thoughts.

The last part of a name decides, so that `openai/o3`, `openrouter/openai/o3` and `azure/o3-2025-04-16` are one family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Family:
    """What a family of models needs.

    Args:
        names: a pattern of the last part of a model's name, in lower case.
        thinks: whether its models think before they answer, unless they are told not to.
        hides_thoughts: whether its APIs show no thought, or a summary, so that no template can travel in it.
        own_temperature: whether its APIs take no temperature but their own, which is 1.
        least_tokens: the smallest limit of an answer, with its thought, that can be set; in tokens.
        sampling: what its makers recommend, where they advise against temperature 0.
    """

    names: str
    thinks: bool = True
    hides_thoughts: bool = False
    own_temperature: bool = False
    least_tokens: int = 1
    sampling: Mapping[str, float] = field(default_factory=dict)


_END = r"(?:[-:@].*)?$"  # a date, a size, a variant
# DSPy refuses a smaller limit for OpenAI's reasoning models, since the thought counts.
_OPENAI_LEAST = 16_000
_QWEN = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}  # min_p is 0, which changes nothing

# The sampling is that of the model cards. DeepSeek's and Qwen's warn of endless repetition at temperature 0.
_FAMILIES = (
    Family(
        rf"^(?:o[1-9]|gpt-5(?:\.\d+)?(?![-.\w]*chat)){_END}",
        hides_thoughts=True,
        own_temperature=True,
        least_tokens=_OPENAI_LEAST,
    ),
    # Thoughts of Claude before version 4 are whole; those of later ones, and Gemini's, are summaries.
    Family(r"claude-(?:[a-z]+-(?:[4-9]|\d\d)|[4-9])", thinks=False, hides_thoughts=True),
    Family(r"gemini-(?:2\.5|[3-9])", hides_thoughts=True),
    Family(r"grok-4", hides_thoughts=True),
    Family(r"deepseek[-_.]?r1|deepseek-reasoner", sampling={"temperature": 0.6, "top_p": 0.95}),
    Family(r"qwen3(?![.\d])(?!.*(?:instruct|coder|base|vl|omni|max|embedding|reranker))", sampling=_QWEN),
    Family(r"\bqwq\b", sampling=_QWEN),
)
_OTHERS = Family("", thinks=False)


@cache
def family_of(model: str) -> Family:
    """The family of a model by its name.

    Examples:
        >>> family_of("openrouter/openai/o3-mini").own_temperature, family_of("openai/gpt-4o").own_temperature
        (True, False)
        >>> family_of("hosted_vllm/Qwen/Qwen3-8B").sampling["temperature"]
        0.6
    """
    name = model.rstrip("/").rpartition("/")[2].lower()
    return next((family for family in _FAMILIES if re.search(family.names, name)), _OTHERS)


def recommended_sampling(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """How to sample from a model where its user says nothing: as its makers recommend, else at temperature 0.

    Args:
        model: its name.
        settings: the other settings of its calls; they may turn its thinking off.

    Examples:
        >>> recommended_sampling("hf:Qwen/Qwen3-8B", {})
        {'temperature': 0.6, 'top_p': 0.95, 'top_k': 20}
        >>> recommended_sampling("hf:Qwen/Qwen3-8B", {"reasoning": False})
        {'temperature': 0.0}
    """
    family = family_of(model)
    if family.own_temperature:
        return {"temperature": None}
    if family.sampling and not _thinks_not(settings):
        # OpenAI's protocol has no `top_k`, so other clients drop or refuse it.
        takes_top_k = model.startswith(("hf:", "gguf:", "hosted_vllm/"))
        return {name: value for name, value in family.sampling.items() if takes_top_k or name != "top_k"}
    return {"temperature": 0.0}


def hides_thoughts(lm: Any) -> bool:  # Any: a user's own LM may be of any class
    """Whether an LM's API keeps its thoughts to itself; an LM that says it shows them is believed."""
    return getattr(lm, "reasoning", None) is not True and family_of(str(getattr(lm, "model", ""))).hides_thoughts


def _thinks_not(settings: Mapping[str, Any]) -> bool:
    """Whether settings turn a model's thinking off, in one of the ways of its servers."""
    template = (settings.get("extra_body") or {}).get("chat_template_kwargs") or {}
    off = settings.get("reasoning_effort") in ("none", "disable")
    return off or settings.get("reasoning") is False or template.get("enable_thinking") is False
