"""The recording adapter: it records completions, and can continue a conversation after a failed attempt.

DSPy has no public way to do this, so all that relies on the inside of its adapters stands in this file:

- The recorder is of a *subclass of the user's adapter class*. A wrapper around the adapter would lose what DSPy asks
  `isinstance` for, such as the JSON adapter's `response_format`.
- The subclass has *the same name*, since `StreamListener` looks adapters up by the name of their class.
- The instance is made with `__new__` and the user's `vars`, since only the user knows the arguments of `__init__`.
- `__init_subclass__` does not run, since `Adapter`'s would call the user's callbacks a second time.
- `_call_postprocess` is overridden: a plain answer with the word `reasoning_content` breaks DSPy's; and an answer that
  cannot be read gets the reason, which the texts alone do not tell.
- `format_assistant_message_content` is overridden, since DSPy shows what a turn of a `dspy.History` lacks as None.
- `use_json_adapter_fallback` is off: an answer in JSON is read without a second call, see `shapes.py`.
- `format_demos` is overridden, since DSPy takes None for a value that is missing, also where the type allows it.
- `format_user_message_content` is overridden, to leave out DSPy's reminder of the format after turns, which show it.
- `format_field_structure` is cached, since making the schemas anew takes half of a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import dspy
from dspy.adapters import Adapter
from dspy.utils.exceptions import AdapterParseError
from pydantic import RootModel

from r2p_dspy.engines.families import knows_markers_only
from r2p_dspy.profile import Profile
from r2p_dspy.prompting.causes import explaining
from r2p_dspy.prompting.feedback_turns import turns
from r2p_dspy.prompting.item_turns import NOTE, ItemTurns
from r2p_dspy.prompting.replies import listening
from r2p_dspy.prompting.shapes import read, thought_field, writes_markers
from r2p_dspy.values.typed import allows_none

_NULL = RootModel[None](None)  # every adapter writes it as it writes None


class Completion(NamedTuple):
    """A text that a model wrote.

    Args:
        signature: what it was written for.
        text: the text.
        shape: the format in which it was read, if not the one that was asked for.
    """

    signature: type[dspy.Signature]
    text: str
    shape: str = ""


def active_adapter() -> Adapter:
    """The adapter that a predictor would use now."""
    return dspy.settings.adapter or dspy.ChatAdapter()  # DSPy 3.4's own default; that of 3.5 is the XML adapter


def suited(adapter: Adapter, lm: object) -> Adapter:
    """The adapter itself, or a chat adapter for a model that was trained on that alone, such as the pocket model."""
    if not knows_markers_only(lm) or writes_markers(adapter):
        return adapter
    chat = RecordingAdapter.of(dspy.ChatAdapter(callbacks=adapter.callbacks))
    chat._layers = adapter._layers if isinstance(adapter, RecordingAdapter) else chat._layers
    return chat


@dataclass(frozen=True)
class _Layer:
    """One module's share in a recording adapter; several modules around each other share one adapter."""

    failed: dict[tuple[str, ...], str]  # by the signature's fields: the completion that failed
    feedback: str
    guide: str
    request: str
    items: ItemTurns | None
    completions: list[Completion] = field(default_factory=list)


class _NoCallbacks:
    def __init_subclass__(cls, **options: Any) -> None:
        """Do not run `Adapter.__init_subclass__`, which would call the user's callbacks a second time."""


class RecordingAdapter(_NoCallbacks, Adapter):
    """The user's adapter, which also records completions and may add the turns of a retry; made by `of`."""

    _layers: tuple[_Layer, ...] = ()
    _reminds = True  # whether a prompt ends with DSPy's reminder of the format

    @classmethod
    def of(
        cls,
        adapter: Adapter,
        failed: Sequence[Completion] = (),
        feedback: str = "",
        guide: str = "",
        request: str = "",
        items: ItemTurns | None = None,
    ) -> RecordingAdapter:
        """A recorder with the prompts and the parsing of any adapter, which is not changed.

        Args:
            adapter: the adapter.
            failed: the completions of the attempt that failed.
            feedback: what to change; empty for a first attempt.
            guide: a text to end the prompt's instructions with, whatever an optimizer makes of them.
            request: a text to end the prompt's last message with.
            items: how the items of the history read as turns; None for a list of them.
        """
        kind: type[Adapter] = type(adapter)
        recorder_class = kind if issubclass(kind, RecordingAdapter) else _recorder_class(kind)  # type: ignore[arg-type, unused-ignore]  # hashable
        recorder = recorder_class.__new__(recorder_class)
        recorder.__dict__.update(vars(adapter))
        if hasattr(recorder, "use_json_adapter_fallback"):
            recorder.use_json_adapter_fallback = False
        # Of several completions of one call the first is the answer, and so the one that failed.
        by_fields = {tuple(each.signature.fields): each.text for each in reversed(failed)}
        outer = adapter._layers if isinstance(adapter, RecordingAdapter) else ()
        recorder._layers = (*outer, _Layer(by_fields, feedback, guide, request, items))
        return recorder

    @property
    def completions(self) -> list[Completion]:
        """What the model wrote since this recorder was made, in order."""
        return self._layers[-1].completions

    @property
    def first_text(self) -> str:
        """The first completion, which becomes the answer; empty where the model wrote nothing."""
        return self.completions[0].text if self.completions else ""

    def format(
        self, signature: type[dspy.Signature], demos: list[dict[str, Any]], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        messages = self._formatted(signature, demos, inputs)
        for layer in self._layers:
            if layer.guide:
                messages[0]["content"] += f"\n\n{layer.guide}"
            text = layer.failed.get(tuple(signature.fields)) if layer.feedback else None
            if text is not None:
                messages = messages + turns(self, signature, text, layer.feedback)
            if layer.request:
                messages = [*messages[:-1], _ending_with(messages[-1], layer.request)]
        return messages

    def _formatted(
        self, signature: type[dspy.Signature], demos: list[dict[str, Any]], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """DSPy's messages, with the items of the history as turns before the last one where that is asked for."""
        items = next((layer.items for layer in self._layers if layer.items and layer.items.fit(signature)), None)
        shown, rest = items.of(self, signature, inputs) if items else ([], Profile())
        if items is None or (rest and not shown):
            plain: list[dict[str, Any]] = super().format(signature, demos, inputs)
            return plain
        formatting = copy(self)  # other calls may use this adapter now
        # Between the turns and the answer it makes small models copy; the system message has the format too. Without an
        # item the prompt has this form as well, which a student of turns knows.
        formatting._reminds = False
        inputs = {**inputs, items.profile: rest}
        signature = signature if rest else signature.delete(items.profile)
        messages: list[dict[str, Any]] = super(RecordingAdapter, formatting).format(signature, demos, inputs)
        if shown:
            messages[0]["content"] += f"\n\n{NOTE}"
        return [*messages[:-1], *shown, messages[-1]]

    def format_user_message_content(
        self,
        signature: type[dspy.Signature],
        inputs: dict[str, Any],
        prefix: str = "",
        suffix: str = "",
        main_request: bool = False,
    ) -> str:
        reminds = main_request and self._reminds
        return str(super().format_user_message_content(signature, inputs, prefix, suffix, reminds))

    def format_assistant_message_content(
        self, signature: type[dspy.Signature], outputs: dict[str, Any], missing_field_message: str | None = None
    ) -> str:
        # A turn of a `dspy.History` has the user's outputs, and no stages; DSPy would show the others as None.
        if missing_field_message is None:
            for name in [name for name in signature.output_fields if name not in outputs]:
                signature = signature.delete(name)
            if not signature.output_fields:
                return ""
        return str(super().format_assistant_message_content(signature, outputs, missing_field_message))

    def format_demos(self, signature: type[dspy.Signature], demos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nullable = {name for name, info in signature.fields.items() if allows_none(info.annotation)}
        with_nulls = [
            {name: _NULL if value is None and name in nullable else value for name, value in dict(demo).items()}
            for demo in demos
        ]
        messages: list[dict[str, Any]] = super().format_demos(signature, with_nulls)
        return messages

    def parse(self, signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        shape = ""
        try:
            values, shape = read(super().parse, signature, completion)
            return values
        finally:
            for layer in self._layers:
                layer.completions.append(Completion(signature, completion, shape))

    def __call__(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        with explaining({**getattr(lm, "kwargs", {}), **lm_kwargs}, signature):
            values: list[dict[str, Any]] = super().__call__(listening(lm), lm_kwargs, signature, demos, inputs)
            return values

    async def acall(
        self,
        lm: Any,
        lm_kwargs: dict[str, Any],
        signature: type[dspy.Signature],
        demos: list[dict[str, Any]],
        inputs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        with explaining({**getattr(lm, "kwargs", {}), **lm_kwargs}, signature):
            values: list[dict[str, Any]] = await super().acall(listening(lm), lm_kwargs, signature, demos, inputs)
            return values

    def _call_postprocess(
        self,
        processed_signature: type[dspy.Signature],
        original_signature: type[dspy.Signature],
        outputs: list[Any],
        lm: Any,
        lm_kwargs: dict[str, Any],
    ) -> list[dict[str, Any]]:
        # DSPy takes a plain answer that holds the word `reasoning_content` for a thought, and fails on it.
        outputs = [{"text": output} if isinstance(output, str) else output for output in outputs]
        postprocess = super()._call_postprocess
        values: list[dict[str, Any]]
        try:
            values = postprocess(processed_signature, original_signature, outputs, lm, lm_kwargs)
        except AdapterParseError:
            # A thought that was asked for in the text came beside it.
            name = thought_field(processed_signature)
            if name is None or not all("reasoning_content" in (output or ()) for output in outputs):
                raise
            rest = processed_signature.delete(name)
            values = postprocess(rest, original_signature, outputs, lm, lm_kwargs)
        return values


def _ending_with(message: dict[str, Any], text: str) -> dict[str, Any]:
    """A message with one more paragraph; messages with media are lists of parts."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": f"{content}\n\n{text}"}
    return {**message, "content": [*content, {"type": "text", "text": text}]}


class _CachedStructure:
    """For DSPy's own chat adapter: its part of the prompt about the format, made once for each signature."""

    @staticmethod
    @lru_cache(maxsize=64)
    def format_field_structure(signature: type[dspy.Signature]) -> str:
        return str(dspy.ChatAdapter().format_field_structure(signature))


@lru_cache(maxsize=64)
def _recorder_class(kind: type[Adapter]) -> type[RecordingAdapter]:
    cached: tuple[type, ...] = (_CachedStructure,) if kind is dspy.ChatAdapter else ()
    bases = (*cached, RecordingAdapter, kind)
    return type(kind.__name__, bases, {"__module__": kind.__module__, "__doc__": kind.__doc__})
