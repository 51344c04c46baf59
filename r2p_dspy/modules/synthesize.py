"""The predictor that reads several candidates and writes the answer."""

from typing import Any, ClassVar

import dspy

from r2p_dspy.modules.profile_predict import ProfilePredict
from r2p_dspy.prompting.signature import comparing


class Synthesize(ProfilePredict):
    """The predictor that reads candidates with their evidence, compares them and writes the answer.

    Args:
        signature: the user's signature. The predictor adds the input `candidates` and the output `comparison`.
        config: see `ProfilePredict`.

    Raises:
        ConfigError: the signature has not exactly one profile input, or has a field of such a name.

    Examples:
        >>> from r2p_dspy.profile import Profile
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> list(Synthesize(Tag).signature.fields)
        ['film', 'profile', 'candidates', 'comparison', 'tag']
    """

    own_inputs: ClassVar[tuple[str, ...]] = ("candidates",)

    def __init__(self, signature: type[dspy.Signature], **config: Any) -> None:
        super().__init__(comparing(signature), **config)
