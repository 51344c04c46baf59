"""Predictors that show a profile: items under local ids, whole demos within a budget, prompts that fit the context."""

from typing import Any

import dspy
from dspy.adapters.utils import format_field_value

from r2p_dspy.fit import shorten
from r2p_dspy.profile import Profile
from r2p_dspy.signature import comparing, profile_field
from r2p_dspy.watch import active_adapter


class Showing(dspy.Predict):
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


class Synthesize(Showing):
    """The predictor that reads candidates with their evidence, compares them and writes the answer.

    Args:
        signature: the user's; it is asked with the input `candidates` and the output `comparison` beside its own.
        config: as of `Showing`.

    Raises:
        ValueError: when the signature has not exactly one profile input, or a field of such a name.

    Example:
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> list(Synthesize(Tag).signature.output_fields)
        ['comparison', 'tag']
    """

    def __init__(self, signature: type[dspy.Signature], **config: Any):
        super().__init__(comparing(signature), **config)

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        return super().forward(**self.prepared(kwargs, active_adapter())[0])

    async def aforward(self, **kwargs: Any) -> dspy.Prediction:
        return await super().aforward(**self.prepared(kwargs, active_adapter())[0])
