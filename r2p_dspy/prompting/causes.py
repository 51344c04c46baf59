"""Why a reply cannot be read as the fields that were asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, cast

import dspy
from dspy.utils.exceptions import AdapterParseError, LMInvalidRequestError
from pydantic import BaseModel

from r2p_dspy.outcome import Outcome
from r2p_dspy.prompting.parsing import written_order
from r2p_dspy.prompting.replies import Reply, collect_replies

Cause: TypeAlias = Literal["cut_off", "no_room", "filtered", "refused", "empty", "malformed"]

# What to do about each cause.
REMEDIES: Mapping[Cause, str] = {
    "cut_off": "raise max_tokens (on the command line --answer-tokens)",
    "no_room": "raise max_tokens (on the command line --answer-tokens), or let the model think less",
    "filtered": "change the provider's filter, or the text that it objects to",
    "refused": "change the instructions, or use a model that answers them",
    "empty": "look at the server's answer with dspy.inspect_history(), or use another model",
    "malformed": "raise max_backtracks, or try another adapter (on the command line --adapter)",
}
# What providers answer a filtered prompt with: error codes, and words of messages that come without one.
_FILTERS = ("content_filter", "content_policy", "content management policy", "content filter", "content policy")
_SHOWN = 120  # characters of a reply's end in a message
_ONLY_THOUGHT = re.compile(r"\s*<think>(?!.*</think>)", re.DOTALL)


class Unreadable(BaseModel):
    """Why a reply cannot be read.

    Args:
        cause: "cut_off" (at the token limit), "no_room" (the thought took all of the limit), "filtered" (by a content
            filter), "refused", "empty", or "malformed" (a field is missing or not of its type).
        reason: the cause in words that follow "it cannot be read: ".
        reply: what the model wrote: its text, else its refusal, else its thought.

    Examples:
        >>> Unreadable(cause="cut_off", reason="it is cut off at the limit of 9 tokens", reply="A tag for").explain()
        'it is cut off at the limit of 9 tokens; it ends: "A tag for"'
    """

    cause: Cause
    reason: str
    reply: str = ""

    @property
    def is_final(self) -> bool:
        """Whether asking again must fail again: a filter filters, a refusal stays, and a thought is as long."""
        return self.cause in ("no_room", "filtered", "refused")

    def explain(self) -> str:
        """The reason and the reply's end, in one line."""
        line = " ".join(self.reply.split())
        end = line if len(line) <= _SHOWN else f"…{line[-_SHOWN:]}"
        return f'{self.reason}; it ends: "{end}"' if end else self.reason


class UnreadableReply(AdapterParseError):
    """An adapter's error with the reason why the reply cannot be read."""

    def __init__(self, error: AdapterParseError, unreadable: Unreadable) -> None:
        Exception.__init__(self, *error.args)
        vars(self).update(vars(error), unreadable=unreadable)
        self.unreadable = unreadable


@contextmanager
def explaining(options: Mapping[str, Any], signature: type[dspy.Signature]) -> Iterator[None]:
    """In this block, an error says why an answer cannot be read, as far as `listening` models tell.

    A prompt that the provider's filter keeps from the model fails like an answer that it withholds.

    Args:
        options: of the calls, with the limit of a reply's tokens.
        signature: what is asked for.

    Raises:
        UnreadableReply: for any `AdapterParseError`, and for a filtered prompt.
    """
    try:
        with collect_replies() as replies:
            yield
    except AdapterParseError as error:
        raise _explained(error, replies, options).with_traceback(error.__traceback__) from error.__cause__
    except LMInvalidRequestError as error:
        if not is_filtered(error):
            raise
        why = Unreadable(cause="filtered", reason="a content filter keeps the prompt from the model")
        message = f"The provider filtered the prompt: {error.message}"
        parse_error = AdapterParseError("", cast(Any, signature), "", message)  # DSPy's annotation says an instance
        raise UnreadableReply(parse_error, why) from error


def is_filtered(error: LMInvalidRequestError) -> bool:
    """Whether a provider refuses a prompt for its content, as its error code or its message says.

    Examples:
        >>> is_filtered(LMInvalidRequestError("blocked by the content management policy"))
        True
        >>> is_filtered(LMInvalidRequestError("temperature must be at most 2"))
        False
    """
    return any(word in f"{error.provider_code} {error}".lower() for word in _FILTERS)


def unreadable_of(error: AdapterParseError) -> Unreadable:
    """Why an answer could not be read, by the error of its call."""
    if isinstance(error, UnreadableReply):
        return error.unreadable
    return Unreadable(cause="malformed", reason=_problem(error), reply=error.lm_response or "")


def unread(error: AdapterParseError) -> Outcome:
    """The outcome of an answer that could not be read. Its error goes back to the model."""
    why = unreadable_of(error)
    if why.cause in ("malformed", "empty"):
        return Outcome(error=f"{_problem(error)}.")  # of an empty answer, too, the model hears what to write
    return Outcome(error=f"{why.reason}; be brief." if why.cause == "cut_off" else f"{why.reason}.")


def _explained(error: AdapterParseError, replies: Sequence[Reply], options: Mapping[str, Any]) -> UnreadableReply:
    if isinstance(error, UnreadableReply):
        return error
    own = next((reply for reply in replies if reply.text and reply.text == error.lm_response), None)
    reply = own or (replies[-1] if replies else Reply(text=error.lm_response or ""))
    limit = options.get("max_completion_tokens") or options.get("max_tokens") or reply.tokens
    return UnreadableReply(error, _unreadable(reply, limit, _problem(error)))


def _unreadable(reply: Reply, limit: int | None, malformed: str) -> Unreadable:
    """Why a reply cannot be read; `malformed` is the reason if it came whole."""
    bound = f"the limit of {limit} tokens" if limit else "the token limit"
    blank = not reply.text.strip()
    cause = _cause(reply, blank)
    reasons: dict[Cause, str] = {
        "cut_off": f"it is cut off at {bound}",
        "no_room": f"the model's thinking took all of {bound}",
        "filtered": "a content filter withheld it",
        "refused": "the model refuses to answer",
        "empty": "it is empty after the thought" if reply.thought else "it is empty",
        "malformed": f"it calls the tool {', '.join(reply.tools)} instead of answering" if blank else malformed,
    }
    return Unreadable(cause=cause, reason=reasons[cause], reply=reply.text or reply.refusal or reply.thought)


def _cause(reply: Reply, blank: bool) -> Cause:
    if reply.refusal:
        return "refused"
    if reply.finish == "content_filter":
        return "filtered"
    if reply.finish == "length":
        return "no_room" if blank or _ONLY_THOUGHT.match(reply.text) else "cut_off"
    return "empty" if blank and not reply.tools else "malformed"


def _problem(error: AdapterParseError) -> str:
    """What is wrong with the format of an answer: a field is missing, or not of its type."""
    signature = cast(type[dspy.Signature], error.signature)
    written = written_order(error.lm_response or "", {name: name for name in signature.output_fields})
    missing = [name for name in signature.output_fields if name not in written]
    # A native thought stands beside the text, so it is named last.
    missing.sort(key=lambda name: signature.output_fields[name].annotation is dspy.Reasoning)
    if missing:
        return f"the field {missing[0]} is missing"
    for name, info in signature.output_fields.items():
        # The XML adapter says the field's definition, not its name.
        if re.search(rf"Failed to parse field ({re.escape(name)}\b|{re.escape(str(info))} with)", str(error)):
            return f"the field {name} is not of its type"
    return "the answer cannot be read"
