"""One predictor that reasons by a template."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import dspy
from dspy.signatures.signature import ensure_signature
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.decoding.carriers import FieldMarkers, StageMarks, ThoughtTags
from r2p_dspy.decoding.monitor import CorrectionMode, Intervention, Monitor, enforced
from r2p_dspy.decoding.steering import steering
from r2p_dspy.modules.profile_predict import ProfilePredict
from r2p_dspy.outcome import Inputs
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.adapter import active_adapter, watch
from r2p_dspy.prompting.signature import Carrier, extend
from r2p_dspy.prompting.tags import guide
from r2p_dspy.template import TEMPLATE, Template


@dataclass(frozen=True)
class Run:
    """What a prediction's outcome is made from, beside its fields.

    Args:
        items: the items as rendered.
        text: the completion as the model wrote it; of several the first, which is the one that is answered with.
        interventions: the corrections of its running text; None where the engine cannot be steered.
        cut: characters that were left out of the items so that the prompt fits.
        grade: how the running text was read: "stream" or "stages"; "retry" if it was not.
    """

    items: Profile
    text: str
    cut: int = 0
    interventions: tuple[Intervention, ...] | None = None
    grade: CorrectionMode = "retry"


class Reason(ProfilePredict):
    """A predictor that reasons by a template before it writes its signature's own outputs.

    It shows the items of the profile under short local ids and with texts that cannot forge the prompt's structure,
    shortens them where the prompt would not fit the model's context, and takes only demos that hold every stage, as
    many as their token budget allows.

    Args:
        signature: with exactly one `Profile` input; a string signature can name no types, so a class.
        template: the stages.
        carrier: what the stages travel in: "fields", typed output fields, or "thinking", tags in the native thinking of
            a reasoning model. There DSPy shows no thoughts of demos, so a prompt gets none: it is for instructions
            and RL.
        demo_tokens: the most that demos may take of a prompt, in tokens as estimated from characters.
        config: for the LM call, as in `dspy.Predict`.

    Raises:
        ValueError: when the signature has not exactly one profile input.

    Example:
        >>> class Tag(dspy.Signature):
        ...     film: str = dspy.InputField()
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> list(Reason(Tag).signature.output_fields)[-2:]
        ['verification', 'tag']
    """

    def __init__(
        self,
        signature: type[dspy.Signature] | str,
        template: Template = TEMPLATE,
        *,
        carrier: Carrier = "fields",
        demo_tokens: int = 2000,
        **config: Any,
    ):
        extended = extend(ensure_signature(signature), template, carrier)
        super().__init__(extended.signature, demo_tokens=demo_tokens, **config)
        self.template = template
        self.stages = extended.stages
        self.thought = extended.thought
        self.answers = extended.answers

    def forward(self, **kwargs: Any) -> dspy.Prediction:
        adapter = self._adapter()
        kwargs, cut = self.prepared(kwargs, adapter)
        monitors: list[Monitor] = []
        try:
            with dspy.context(adapter=adapter), steering(self._monitoring(kwargs, adapter, monitors)):
                prediction = super().forward(**kwargs)
        except AdapterParseError as error:
            raise self._note(error, kwargs, adapter.texts, cut, monitors)  # noqa: B904  (the same one)
        return self._note(prediction, kwargs, adapter.texts, cut, monitors)

    async def aforward(self, **kwargs: Any) -> dspy.Prediction:
        adapter = self._adapter()
        kwargs, cut = self.prepared(kwargs, adapter)
        monitors: list[Monitor] = []
        try:
            with dspy.context(adapter=adapter), steering(self._monitoring(kwargs, adapter, monitors)):
                prediction = await super().aforward(**kwargs)
        except AdapterParseError as error:
            raise self._note(error, kwargs, adapter.texts, cut, monitors)  # noqa: B904
        return self._note(prediction, kwargs, adapter.texts, cut, monitors)

    def usable_demos(self, demos: list[Any]) -> list[dict[str, Any]]:
        return [] if self.thought is not None else super().usable_demos(demos)

    def _adapter(self) -> Any:
        return watch(active_adapter(), guide="" if self.thought is None else guide(self.template))

    def _monitoring(
        self, kwargs: Mapping[str, Any], adapter: Any, monitors: list[Monitor]
    ) -> Callable[[], Monitor] | None:
        """What makes a monitor for each answer of a call, or None where nothing is to be monitored, or nothing can."""
        checks, most = enforced()
        marks: StageMarks = ThoughtTags(self.template)
        if self.thought is None:
            marks = FieldMarkers(self.stages, self.answers)
            # The other adapters are its children, and write no such marks.
            if not isinstance(adapter, dspy.ChatAdapter) or isinstance(adapter, dspy.JSONAdapter | dspy.XMLAdapter):
                return None
        if most < 1:
            return None
        fields = {name: value for name, value in kwargs.items() if name in self.signature.input_fields}
        inputs = Inputs(fields=fields, items=kwargs[self.profile], labels=self.labels)

        def monitor() -> Monitor:
            monitors.append(Monitor(marks, self.template, checks, inputs, most))
            return monitors[-1]

        return monitor

    @property
    def labels(self) -> tuple[str, ...]:
        """The answers that the signature allows, or () for free text."""
        annotation = self.signature.output_fields[self.answers[0]].annotation
        return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()

    def _note(
        self,
        made: Any,
        kwargs: Mapping[str, Any],
        texts: list[str],
        cut: int,
        monitors: list[Monitor],
    ) -> Any:
        """What was made, a prediction or the error that it cannot be read, with a note of how."""
        # An underscore keeps it off the prediction's fields, and so out of traces, demos and saved programs.
        interventions = tuple(monitors[0].interventions) if monitors else None
        grade: CorrectionMode = monitors[0].correction_mode if monitors else "retry"
        made._run = Run(kwargs[self.profile], texts[0] if texts else "", cut, interventions, grade)
        return made
