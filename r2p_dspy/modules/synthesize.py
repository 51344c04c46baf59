"""The predictor that reads several candidates and writes the answer."""

from typing import Any

import dspy

from r2p_dspy.modules.profile_predict import ProfilePredict
from r2p_dspy.prompting.adapter import active_adapter
from r2p_dspy.prompting.signature import comparing


class Synthesize(ProfilePredict):
    """The predictor that reads candidates with their evidence, compares them and writes the answer.

    Args:
        signature: the user's; it is asked with the input `candidates` and the output `comparison` beside its own.
        config: as of `ProfilePredict`.

    Raises:
        ValueError: when the signature has not exactly one profile input, or a field of such a name.

    Example:
        >>> from r2p_dspy.profile import Profile
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
