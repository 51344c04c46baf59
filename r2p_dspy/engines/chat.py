"""Encoding the messages of a request as the token ids that a chat model continues."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from dspy.lm15 import InvalidRequestError, Message, Request, TextPart, ThinkingPart, UnsupportedFeatureError

from r2p_dspy.errors import ConfigError

OPEN, CLOSE = "<think>", "</think>"


class Chat:
    """A tokenizer and its chat template, safe to use from many threads.

    Only the template writes control tokens: `<|im_end|>` inside a message is encoded as its ten characters.
    """

    def __init__(self, tokenizer: Any) -> None:  # Any: transformers builds its tokenizer classes at run time
        template = tokenizer.chat_template
        if not template:
            raise ConfigError("its tokenizer has no chat template: use a chat or instruct model, or add a template")
        if tokenizer.chat_control_tokens is None:
            # The tags of a thought are no control tokens: an assistant's earlier or half-finished thought holds them.
            # Some models' control tokens (DeepSeek's <｜User｜>) are not marked special; the template names those.
            tokenizer.chat_control_tokens = [
                token.content
                for token in tokenizer.added_tokens_decoder.values()
                if token.special or (token.content in str(template) and len(token.content.strip()) > 1)
                if token.content not in (OPEN, CLOSE)
            ]
        self._tokenizer = tokenizer
        self._mark_ends: dict[int, bool] = {}
        self._lock = threading.Lock()  # encoding sets options on the tokenizer

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._tokenizer,)

    def encode(
        self, request: Request, *, continues: bool = False, prompts: bool = True, thinks: bool | None = None
    ) -> tuple[list[int], bool]:
        """The token ids to continue, and whether they end inside a thought.

        Args:
            request: its system text and messages; their parts must be text or thoughts.
            continues: continue the last message, an assistant's, where it ends.
            prompts: end with the template's opening of an assistant's turn; `continues` implies it.
            thinks: passed to the template as `enable_thinking`; None leaves it to the template.
        """
        messages = conversation(request, continues=continues)
        prefix = ""
        if continues:
            if messages[-1]["role"] != "assistant" or len(messages) < 2:
                raise InvalidRequestError("continue_final_message needs an assistant's message after another message")
            prefix = messages.pop()["content"]
        ids = self._render(messages, prompts or continues, thinks)
        inside = (prompts or continues) and self._tokenizer.decode(ids[-12:]).rstrip().endswith(OPEN)
        if inside and prefix.startswith(OPEN):  # the template has opened the thought already
            prefix = prefix.removeprefix(OPEN).removeprefix("\n")
        if prefix:
            # Encoded by itself, as the model would have written it: no token spans the end of the template.
            ids = ids + self.encode_text(prefix)
            inside = CLOSE not in prefix and (inside or prefix.lstrip().startswith(OPEN))
        return ids, inside

    def count(self, text: str) -> int:
        """The number of tokens of a text inside a message."""
        return len(self.encode_text(text))

    def may_end_mark(self, token: int) -> bool:
        """Whether a token has a character that ends a tag or a field marker."""
        if token not in self._mark_ends:
            text = self.decode([token])
            self._mark_ends[token] = "]" in text or ">" in text
        return self._mark_ends[token]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids without control tokens; half a character becomes U+FFFD."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _render(self, messages: list[dict[str, str]], prompts: bool, thinks: bool | None) -> list[int]:
        options = {} if thinks is None else {"enable_thinking": thinks}
        with self._lock:
            try:
                ids: list[int] = self._tokenizer.apply_chat_template(
                    messages, add_generation_prompt=prompts, return_dict=False, sanitize_control_tokens=True, **options
                )
                return ids
            except Exception as cause:  # a template may raise anything, e.g. for two user turns in a row
                raise InvalidRequestError(f"the chat template refused the messages: {cause}") from cause

    def encode_text(self, text: str) -> list[int]:
        """The token ids of a text as a model would write it."""
        with self._lock:
            # Not verbose: a text that is too long for the model is counted without a warning, and then shortened.
            ids: list[int] = self._tokenizer.encode(
                text, add_special_tokens=False, split_special_tokens=True, verbose=False
            )
            return ids


def conversation(request: Request, *, continues: bool = False) -> list[dict[str, str]]:
    """The system text and messages of a request as chat templates take them.

    With `continues` the last message is unfinished, so a thought at its end stays open. A part that is neither text nor
    a thought raises UnsupportedFeatureError.
    """
    system, messages = request.system, []
    if system is not None and not isinstance(system, str):
        system = "\n".join(_text("system", i, part) for i, part in enumerate(system))
    if system is not None:
        messages.append({"role": "system", "content": system})
    last = len(request.messages) - 1
    return messages + [_message(i, m, unfinished=continues and i == last) for i, m in enumerate(request.messages)]


def _message(index: int, message: Message, *, unfinished: bool) -> dict[str, str]:
    """A message as templates take it, with thoughts in tags. A thought that ends an unfinished message stays open."""
    content, after_text = "", False
    for i, part in enumerate(message.parts):
        text = _text(f"messages[{index}]", i, part)
        if isinstance(part, ThinkingPart):
            is_open = unfinished and i == len(message.parts) - 1
            content += f"{OPEN}\n{text}" + ("" if is_open else f"\n{CLOSE}\n\n")
        else:
            content += "\n" + text if after_text else text
        after_text = isinstance(part, TextPart)
    return {"role": "system" if message.role == "developer" else message.role, "content": content}


def _text(where: str, index: int, part: Any) -> str:  # Any: DSPy has no public type for the part of a message
    if not isinstance(part, TextPart | ThinkingPart):
        raise UnsupportedFeatureError(
            f"this model reads only text, not a part of type {part.type!r}", feature=f"{where}.parts[{index}]"
        )
    return part.text or ""
