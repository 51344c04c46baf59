"""Messages of a request to the token ids that a chat model continues."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from dspy.lm15 import InvalidRequestError, Message, Request, TextPart, ThinkingPart, UnsupportedFeatureError

from r2p_dspy.errors import ConfigError

OPEN, CLOSE = "<think>", "</think>"


class Chat:
    """A tokenizer and its chat template, safe to use from many threads.

    Only the template writes control tokens: `<|im_end|>` inside a message is encoded as the ten characters that it is.

    Args:
        tokenizer: a transformers tokenizer.

    Raises:
        ValueError: the tokenizer has no chat template.
    """

    def __init__(self, tokenizer: Any) -> None:
        template = tokenizer.chat_template
        if not template:
            raise ConfigError("its tokenizer has no chat template; take a chat or instruct model, or add a template")
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
        self._marking: dict[int, bool] = {}
        self._lock = threading.Lock()  # encoding sets options on the tokenizer

    def encode(
        self, request: Request, *, continues: bool = False, prompts: bool = True, thinks: bool | None = None
    ) -> tuple[list[int], bool]:
        """The token ids to continue, and whether they end inside a thought.

        Args:
            request: its system text and messages; of the parts only text and thoughts.
            continues: the last message is the beginning of the answer, to be continued where it ends.
            prompts: end with the template's opening of an assistant's turn; always so when `continues`.
            thinks: handed to the template as `enable_thinking`; None leaves it to the template.

        Raises:
            InvalidRequestError: the template refused the messages, or there is nothing to continue.
            UnsupportedFeatureError: images, tools and other parts that are no text.
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
            # Encoded by itself, as the model would have gone on: its tokens never reach back over the template's end.
            ids = ids + self.plain(prefix)
            inside = CLOSE not in prefix and (inside or prefix.lstrip().startswith(OPEN))
        return ids, inside

    def count(self, text: str) -> int:
        """Tokens of a text that stands inside a message."""
        return len(self.plain(text))

    def marks(self, token: int) -> bool:
        """Whether a token holds what ends a tag or a field's mark."""
        if token not in self._marking:
            text = self.decode([token])
            self._marking[token] = "]" in text or ">" in text
        return self._marking[token]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, control tokens left out; half a character becomes U+FFFD."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def _render(self, messages: list[dict[str, str]], prompts: bool, thinks: bool | None) -> list[int]:
        options = {} if thinks is None else {"enable_thinking": thinks}
        with self._lock:
            try:
                return self._tokenizer.apply_chat_template(
                    messages, add_generation_prompt=prompts, return_dict=False, sanitize_control_tokens=True, **options
                )
            except Exception as cause:  # a template raises what it likes, e.g. for two user turns in a row
                raise InvalidRequestError(f"the chat template refused the messages: {cause}") from cause

    def plain(self, text: str) -> list[int]:
        """The token ids of a text as a model would write it."""
        with self._lock:
            # Not verbose: what is too long for the model is counted all the same, and then cut.
            return self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True, verbose=False)


def conversation(request: Request, *, continues: bool = False) -> list[dict[str, str]]:
    """A request's system text and messages as chat templates take them.

    Args:
        request: of its parts only text and thoughts.
        continues: the last message is unfinished, so a thought at its end stays open.

    Raises:
        UnsupportedFeatureError: images, tools and other parts that are no text.
    """
    messages = [] if request.system is None else [{"role": "system", "content": _system(request.system)}]
    last = len(request.messages) - 1
    return messages + [_message(i, m, unfinished=continues and i == last) for i, m in enumerate(request.messages)]


def _system(system: Any) -> str:
    return system if isinstance(system, str) else "\n".join(_text("system", i, part) for i, part in enumerate(system))


def _message(index: int, message: Message, *, unfinished: bool) -> dict[str, str]:
    """A message as templates take it; a thought stands in its tags, left open at the end of an unfinished message."""
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


def _text(where: str, index: int, part: Any) -> str:
    if not isinstance(part, TextPart | ThinkingPart):
        raise UnsupportedFeatureError(
            f"only text can be read here, not a part of type {part.type!r}", feature=f"{where}.parts[{index}]"
        )
    return part.text
