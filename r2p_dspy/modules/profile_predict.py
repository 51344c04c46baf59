"""A predictor that shows a profile: items under local ids, whole demos within a budget, a prompt that fits."""

import asyncio
import logging
from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar

import dspy
from dspy.adapters import Adapter
from dspy.adapters.utils import format_field_value

from r2p_dspy.profile import Profile
from r2p_dspy.prompting.adapter import active_adapter, suited
from r2p_dspy.prompting.fit import shorten
from r2p_dspy.prompting.signature import PicklableSignature, profile_field
from r2p_dspy.prompting.strangers import neutral_for, neutral_inputs
from r2p_dspy.values.media import MEDIUM_TOKENS, split_media
from r2p_dspy.values.neutral import Neutral
from r2p_dspy.values.tokens import estimate_tokens
from r2p_dspy.values.typed import allows_none

_log = logging.getLogger(__name__)
_STATE = ("signature", "demos", "traces", "train", "fields")  # what `dspy.Predict.dump_state` writes beside `lm`
_SIGNATURES = ("signature", "original_signature")  # attributes
_CHARACTERS_PER_TOKEN = 4  # of English, about


def is_whole(demo: Mapping[str, Any], signature: type[dspy.Signature]) -> bool:
    """Whether a demo has a value for every field; None is one where the field's type allows it."""
    return all(
        name in demo and (demo[name] is not None or allows_none(info.annotation))
        for name, info in signature.fields.items()
    )


class ProfilePredict(dspy.Predict):
    """A `dspy.Predict` that shows a profile's items under local ids, within the model's context.

    Args:
        signature: a signature with exactly one `Profile` input.
        demo_tokens: the tokens that demos may take of a prompt at most, estimated from bytes; a medium counts 1,600.
        config: options of the LM call, as in `dspy.Predict`.

    Raises:
        ConfigError: the signature has not exactly one profile input.
    """

    signature: type[dspy.Signature]  # DSPy's annotation allows None
    reserved: tuple[str, ...] = ()  # names that mark the structure of answers, beside the outputs'
    own_inputs: ClassVar[tuple[str, ...]] = ()  # inputs that the program writes itself, neutral already

    def __init__(self, signature: type[dspy.Signature], *, demo_tokens: int = 2000, **config: Any) -> None:
        super().__init__(signature, **config)
        self.original_signature = self.signature
        self.profile = profile_field(self.signature)
        self.demo_tokens = demo_tokens

    def forward(self, **inputs: Any) -> dspy.Prediction:
        adapter = suited(active_adapter(), self.model(inputs))
        shown, _ = self.prepared(inputs, adapter)
        with dspy.context(adapter=adapter):
            prediction: dspy.Prediction = super().forward(**shown)  # type: ignore[no-untyped-call]
        return prediction

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        adapter = suited(active_adapter(), self.model(inputs))
        shown, _ = await asyncio.to_thread(self.prepared, inputs, adapter)  # it may ask a server to count tokens
        with dspy.context(adapter=adapter):
            prediction: dspy.Prediction = await super().aforward(**shown)  # type: ignore[no-untyped-call]
        return prediction

    def model(self, inputs: Mapping[str, Any]) -> Any:
        """The LM of a call with these arguments."""
        return inputs.get("lm") or self.lm or dspy.settings.lm

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**state, **{name: PicklableSignature(state[name]) for name in _SIGNATURES}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = {**state, **{name: state[name].signature for name in _SIGNATURES}}
        super().__setstate__(state)  # type: ignore[no-untyped-call]

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> "ProfilePredict":
        """Load a state as `dspy.Predict` does, always from the signature that this predictor was built with.

        DSPy makes each new signature from the last one, and pydantic keeps them all: after about a hundred states
        copying the fields would exceed the recursion limit.

        The state may be of a stranger's file, and DSPy sets every attribute that stands there, `config` with an address
        included. So nothing but a predictor's own state is loaded, and the profile's description stays the program's.

        Args:
            state: what `dump_state` returned.
            allow_unsafe_lm_state: also take the language model of the state, for a file that you trust.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no state of this predictor.
        """
        if not (isinstance(demos := state["demos"], list) and all(isinstance(demo, Mapping) for demo in demos)):
            raise TypeError("demos are no list of dicts")
        for demo in demos:
            Profile.of(demo.get(self.profile))  # raises now, not at the first call
        known = {name: state[name] for name in _STATE if name in state}
        if (lm := state.get("lm")) and not allow_unsafe_lm_state:
            _log.warning("the state's language model is left out; bind one, or pass allow_unsafe_lm_state=True")
        self.signature = self.original_signature
        super().load_state(
            {**known, "lm": lm if allow_unsafe_lm_state else None}, allow_unsafe_lm_state=allow_unsafe_lm_state
        )
        own, loaded = (each.fields[self.profile] for each in (self.original_signature, self.signature))
        loaded.json_schema_extra = copy(own.json_schema_extra)
        return self

    def usable_demos(self, demos: list[Any], neutral: Neutral = str) -> list[dict[str, Any]]:
        """The demos that a prompt gets: those with every field, from the first on, within the budget."""
        chosen: list[dict[str, Any]] = []
        budget: float = self.demo_tokens
        for demo in demos:
            values = dict(demo)
            if not is_whole(values, self.signature):
                continue
            values |= self._shown(values, neutral)
            # As rendered, so that a demo read back from a file takes as much as it took before.
            rendered = {
                name: str(format_field_value(info, values[name])) for name, info in self.signature.fields.items()
            }
            budget -= sum(self._tokens(name, text) for name, text in rendered.items())
            if budget < 0:
                break
            chosen.append(values)
        return chosen

    def _tokens(self, name: str, text: str) -> float:
        """The tokens of a demo's field. Adapters send media of inputs as media, those of outputs as text."""
        text, media = split_media(text) if name in self.signature.input_fields else (text, 0)
        return estimate_tokens(text, _CHARACTERS_PER_TOKEN) + media * MEDIUM_TOKENS

    def prepared(self, inputs: dict[str, Any], adapter: Adapter) -> tuple[dict[str, Any], int]:
        """A call's arguments with the items and demos to show, and the number of characters cut from the items."""
        given: Any = inputs.get("demos", self.demos)  # DSPy takes any kind of rows
        neutral = neutral_for(self.signature, self.reserved, adapter)
        inputs = {**inputs, **self._shown(inputs, neutral)}
        demos, items = self.usable_demos(given, neutral), inputs[self.profile]
        fields = {name: value for name, value in inputs.items() if name in self.signature.input_fields}
        limit = {**self.config, **inputs.get("config", {})}.get("max_tokens")
        items, demos, truncated = shorten(
            self.model(inputs), adapter, self.signature, demos, fields, self.profile, items, limit
        )
        return {**inputs, "demos": demos, self.profile: items}, truncated

    def _shown(self, values: Mapping[str, Any], neutral: Neutral) -> dict[str, Any]:
        """A signature's inputs as a prompt shows them."""
        known = {*self.signature.input_fields} - {self.profile, *self.own_inputs}
        texts = {name: self._local_turns(value) for name, value in values.items() if name in known}
        items = Profile.of(values.get(self.profile)).local(neutral)
        return {**neutral_inputs(self.signature, texts, neutral), self.profile: items}

    def _local_turns(self, value: Any) -> Any:
        """A conversation with the items of its turns as prompts show them; any other input as it is."""
        if not isinstance(value, dspy.History):
            return value
        own = self.profile
        return dspy.History(
            messages=[{**turn, own: Profile.of(turn[own]).local()} if own in turn else turn for turn in value.messages]
        )
