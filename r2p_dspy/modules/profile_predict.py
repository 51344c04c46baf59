"""Predictors that show a profile: items under local ids, whole demos within a budget, prompts that fit the context."""

from typing import Any

import dspy
from dspy.adapters.utils import format_field_value

from r2p_dspy.profile import Profile
from r2p_dspy.prompting.fit import shorten
from r2p_dspy.prompting.signature import profile_field


class ProfilePredict(dspy.Predict):
    """A `dspy.Predict` that cares for its profile input and its demos.

    Args:
        signature: with exactly one `Profile` input.
        demo_tokens: the most that demos may take of a prompt, in tokens as estimated from characters.
        config: for the LM call, as in `dspy.Predict`.

    Raises:
        ValueError: when the signature has not exactly one profile input.
    """

    def __init__(self, signature: type[dspy.Signature], *, demo_tokens: int = 2000, **config: Any):
        super().__init__(signature, **config)
        self.profile = profile_field(self.signature)
        self.demo_tokens = demo_tokens

    def usable_demos(self, demos: list[Any]) -> list[dict[str, Any]]:
        """The demos that a prompt gets: those that hold every field, within the budget, first ones first."""
        chosen, budget = [], self.demo_tokens * 4
        for demo in demos:
            held = dict(demo)
            if any(held.get(name) is None for name in self.signature.fields):
                continue
            held[self.profile] = Profile.of(held[self.profile]).local()
            # As rendered, so that a demo read back from a file takes as much as it took before.
            budget -= sum(len(format_field_value(info, held[name])) for name, info in self.signature.fields.items())
            if budget < 0:
                break
            chosen.append(held)
        return chosen

    def prepared(self, kwargs: dict[str, Any], adapter: Any) -> tuple[dict[str, Any], int]:
        """A call's arguments with what the prompt is to show, and how many characters were left out of the items."""
        demos = self.usable_demos(kwargs.pop("demos", self.demos))
        items = Profile.of(kwargs.get(self.profile)).local()
        lm = kwargs.get("lm") or self.lm or dspy.settings.lm
        inputs = {name: value for name, value in kwargs.items() if name in self.signature.input_fields}
        limit = {**self.config, **kwargs.get("config", {})}.get("max_tokens")
        items, demos, cut = shorten(lm, adapter, self.signature, demos, inputs, self.profile, items, limit)
        return {**kwargs, "demos": demos, self.profile: items}, cut
