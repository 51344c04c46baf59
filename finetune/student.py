"""The model in training: loading it, chat rows as its tokens, and saving it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dspy.lm15 import Message, Request, TextPart

from r2p_dspy.engines import weights
from r2p_dspy.engines.chat import OPEN, Chat
from r2p_dspy.errors import ConfigError
from r2p_dspy.files import atomic_path

_MODEL_FILES = ("config.json", "adapter_config.json")


@dataclass
class Student:
    """A model in training, with its tokenizer and chat template."""

    model: Any
    tokenizer: Any
    chat: Chat
    source: str  # where it was loaded from
    context: int  # tokens
    stored: str  # torch's name of the dtype that its weights are stored in
    thinking: bool | None = None  # whether its template is told to think; None leaves it to the template

    @classmethod
    def load(cls, source: str | Path, *, lora: bool = False, thinking: bool | None = None) -> Student:
        """Load a student from a directory, a hub name, `pocket`, `smollm2` or `gguf:FILE`.

        With `lora` the weights stay fixed, so a GPU holds them in bfloat16; small steps need float32.
        """
        name = str(source).removeprefix("hf:")
        dtype = "bfloat16" if lora and torch.cuda.is_available() else "float32"
        model, tokenizer, directory = weights.load(name, device="cpu", dtype=dtype)
        try:
            chat = Chat(tokenizer)
        except ValueError as error:
            raise ConfigError(f"student {name!r}: {error}") from None
        if tokenizer.eos_token_id is None:
            raise ConfigError(f"student {name!r}: its tokenizer has no token that ends an answer; set its eos_token")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"  # an answer continues from the end of its prompt
        config = model.config.get_text_config(decoder=True)
        context = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        stored = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        stored_dtype = stored.get("dtype") or stored.get("torch_dtype") or "float32"
        return cls(model, tokenizer, chat, name, context, stored_dtype, thinking)

    @property
    def can_think(self) -> bool:
        """Whether its chat template supports native thinking."""
        return OPEN in str(self.tokenizer.chat_template) or "reasoning_content" in str(self.tokenizer.chat_template)

    @property
    def size(self) -> int:
        """The number of its parameters."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def end_tokens(self) -> set[int]:
        """The tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        return {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], bool]:
        """The tokens of a prompt, and whether they end inside a thought that the template opened."""
        return self.chat.encode(_request(messages), thinks=self.thinking)

    def encode(self, row: Mapping[str, Any]) -> dict[str, list[int]]:
        """A row's tokens as this model reads and writes them, as TRL takes them, with a mask of the tokens to learn.

        The answer is encoded as a continuation of the prompt: some templates open a thought in the prompt or cut
        thoughts out of answers, and neither may happen here.
        """
        prompt, _ = self.prompt(row["prompt"])
        request = _request([*row["prompt"], *row["completion"]])
        whole, _ = self.chat.encode(request, continues=True, thinks=self.thinking)
        ids = [*whole, self.tokenizer.eos_token_id]
        return {"input_ids": ids, "completion_mask": [0] * len(prompt) + [1] * (len(ids) - len(prompt))}

    def check_fits(self, longest_prompt: int, answer: int) -> None:
        """Refuse prompts that leave no room for an answer; both lengths are in tokens."""
        if longest_prompt + answer > self.context:
            raise ConfigError(
                f"student {self.source!r} has a context of {self.context} tokens, and the longest prompt takes "
                f"{longest_prompt}, an answer up to {answer}: lower --k, set --retriever-tokens, or take a student "
                "with a longer context"
            )

    def save(self, model: Any, target: Path) -> Path:
        """Write the trained model and its tokenizer, whole or not at all; every engine reads merged adapters."""
        with atomic_path(target) as part:
            part.mkdir(parents=True)
            if hasattr(model, "merge_and_unload"):
                model.save_pretrained(part / "adapter")
                model = model.merge_and_unload()
            stored_dtype = getattr(torch, self.stored)
            if {weight.dtype for weight in model.parameters()} != {stored_dtype}:
                model = model.to(stored_dtype)
            model.save_pretrained(part)
            self.tokenizer.save_pretrained(part)
        return target


def is_finished(directory: Path) -> bool:
    """Whether a directory holds a complete model; `Student.save` never leaves half of one."""
    return any((directory / name).exists() for name in _MODEL_FILES)


def _request(messages: Sequence[Mapping[str, str]]) -> Request:
    roles = {"system": "developer"}  # rendering the conversation turns it back into the template's name
    turns = ((roles.get(message["role"], message["role"]), message["content"]) for message in messages)
    return Request("student", tuple(Message(role, (TextPart(text),)) for role, text in turns))  # type: ignore[arg-type]
