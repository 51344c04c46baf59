"""An adapter that also tells what the model wrote, and can let a conversation go on with a failed attempt."""

import copy
from functools import lru_cache
from typing import Any

import dspy
from dspy.adapters import Adapter
from dspy.utils.exceptions import AdapterParseError

from r2p_dspy.prompting.feedback_turns import turns


def active_adapter() -> Adapter:
    """The adapter that a predictor would use now."""
    return dspy.settings.adapter or dspy.ChatAdapter()


def watch(
    adapter: Adapter,
    failed: list[tuple[type[dspy.Signature], str]] | None = None,
    feedback: str = "",
    guide: str = "",
) -> Any:
    """A copy of an adapter that notes completions and may add the turns of a retry.

    The copy is of the adapter's own class, so prompts and parsing stay what they are; only ChatAdapter's silent second
    call through the JSON adapter is off, which would pass for compliance.

    Args:
        adapter: any DSPy adapter; it is not changed.
        failed: (signature, completion) of the attempt that failed, by predictor.
        feedback: what to change; empty for a first attempt.
        guide: what the prompt's instructions are to end with, whatever an optimizer makes of them.

    Returns:
        The adapter, with `texts`, the completions in order, and `calls`, each with its signature.
    """
    watching: Any = copy.copy(adapter)
    watching.texts, watching.calls = [], []
    formatting: Any = copy.copy(adapter)
    if type(adapter) is dspy.ChatAdapter:
        formatting.format_field_structure = _structure
    # Of several completions of one call the first is the answer, and so the one that failed.
    previous = {tuple(signature.fields): text for signature, text in reversed(failed or [])}

    def format_messages(signature: type[dspy.Signature], demos: list[Any], inputs: dict[str, Any]) -> list[Any]:
        messages = formatting.format(signature, demos, inputs)
        if guide:
            messages[0]["content"] += f"\n\n{guide}"
        text = previous.get(tuple(signature.fields)) if feedback else None
        return messages if text is None else messages + turns(adapter, signature, text, feedback)

    def parse(signature: type[dspy.Signature], completion: str) -> dict[str, Any]:
        watching.texts.append(completion)
        watching.calls.append((signature, completion))
        try:
            return adapter.parse(signature, completion)
        except RecursionError:  # the repair of JSON follows thousands of brackets down
            raise AdapterParseError(
                adapter_name=type(adapter).__name__,
                signature=signature,
                lm_response=completion,
                message="It is nested too deeply.",
            ) from None
        except AdapterParseError:
            # A server that does not take thoughts apart leaves them in the text, for a field that asks for one.
            thought, closed, answer = completion.partition("</think>")
            fields = signature.output_fields.items()
            name = next((name for name, field in fields if field.annotation is dspy.Reasoning), None)
            if not closed or name is None:
                raise
            return {**adapter.parse(signature.delete(name), answer), name: dspy.Reasoning(content=thought)}

    def postprocess(read: Any, signature: Any, outputs: list[Any], lm: Any, settings: Any) -> list[dict[str, Any]]:
        # DSPy takes a plain answer that holds the word `reasoning_content` for a thought, and fails on it.
        outputs = [{"text": one} if isinstance(one, str) else one for one in outputs]
        return type(adapter)._call_postprocess(watching, read, signature, outputs, lm, settings)

    watching.format, watching.parse, watching._call_postprocess = format_messages, parse, postprocess
    if hasattr(watching, "use_json_adapter_fallback"):
        watching.use_json_adapter_fallback = False
    return watching


@lru_cache(maxsize=64)
def _structure(signature: type[dspy.Signature]) -> str:
    """The prompt's part about the format. Making it anew took half of a call, most of that the schemas of the types."""
    return dspy.ChatAdapter().format_field_structure(signature)
