"""The model that is trained: loading it, rows of chat as its tokens, its answers, and the files that it becomes."""

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

_FILES = ("config.json", "adapter_config.json")


@dataclass
class Student:
    """A model in training, in which everything that knows its tokenizer is at hand.

    Args:
        model: of transformers, in training mode nowhere yet.
        tokenizer: its own.
        chat: renders conversations with its template.
        source: where it was loaded from.
        context: tokens that it can look back on.
        stored: the type that its weights are stored in, by torch's name.
        thinking: whether its template is told to think; None leaves it to the template.
    """

    model: Any
    tokenizer: Any
    chat: Chat
    source: str
    context: int
    stored: str
    thinking: bool | None = None

    @classmethod
    def load(cls, source: str | Path, *, lora: bool = False, thinks: bool | None = None) -> Student:
        """A student from a directory, a hub name, or `pocket`.

        Args:
            source: as of the `--student` option; `hf:` before it is allowed.
            lora: its weights stay as they are, so on a GPU they are held in bfloat16; else in float32, which small
                steps need.
            thinks: as of `thinking`.

        Raises:
            ValueError: it cannot be loaded, or its tokenizer has no chat template.
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
        tokenizer.padding_side = "left"  # answers go on from the end of a prompt
        config = model.config.get_text_config(decoder=True)
        context = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        stored = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        kind = stored.get("dtype") or stored.get("torch_dtype") or "float32"
        return cls(model, tokenizer, chat, name, context, kind, thinks)

    @property
    def can_think(self) -> bool:
        """Whether its chat template knows of thoughts, so that reasoning belongs into them."""
        return OPEN in str(self.tokenizer.chat_template) or "reasoning_content" in str(self.tokenizer.chat_template)

    @property
    def size(self) -> int:
        """Its parameters."""
        return sum(weight.numel() for weight in self.model.parameters())

    @property
    def ends(self) -> set[int]:
        """The tokens that end an answer."""
        ends = self.model.generation_config.eos_token_id
        return {self.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> tuple[list[int], bool]:
        """The tokens that an answer to a conversation follows, and whether they end inside a thought."""
        return self.chat.encode(_request(messages), thinks=self.thinking)

    def encode(self, row: Mapping[str, Any]) -> dict[str, list[int]]:
        """A row's tokens as this model would read and write them, with those to learn marked.

        The answer is encoded as a continuation of the prompt: templates that open a thought in the prompt, or that cut
        thoughts out of answers, cannot take it away.

        Args:
            row: `prompt` and `completion`, each a list of messages.

        Returns:
            `input_ids` and `completion_mask`, as TRL takes what is tokenized already.
        """
        prompt, _ = self.prompt(row["prompt"])
        request = _request([*row["prompt"], *row["completion"]])
        whole, _ = self.chat.encode(request, continues=True, thinks=self.thinking)
        ids = [*whole, self.tokenizer.eos_token_id]
        return {"input_ids": ids, "completion_mask": [0] * len(prompt) + [1] * (len(ids) - len(prompt))}

    def check_fits(self, longest: int, new: int) -> None:
        """Refuse prompts that leave no room for an answer.

        Raises:
            ValueError: with both numbers.
        """
        if longest + new > self.context:
            raise ConfigError(
                f"student {self.source!r} has a context of {self.context} tokens, and the longest prompt takes "
                f"{longest} of them, an answer up to {new}: lower --k, set --retriever-tokens, or take a student of "
                "longer context"
            )

    def save(self, model: Any, target: Path) -> Path:
        """Write the trained model and its tokenizer, whole or not at all.

        Args:
            model: the trained one; of an adapter also the merged whole is written, since every engine reads that.
            target: the directory.
        """
        with atomic_path(target) as part:
            part.mkdir(parents=True)
            if hasattr(model, "merge_and_unload"):
                model.save_pretrained(part / "adapter")
                model = model.merge_and_unload()
            wanted = getattr(torch, self.stored)
            held = {weight.dtype for weight in model.parameters()}
            model = model if held == {wanted} else model.to(wanted)
            model.save_pretrained(part)
            self.tokenizer.save_pretrained(part)
        return target


def finished(directory: Path) -> bool:
    """Whether a directory holds a whole model; they are written whole or not at all."""
    return any((directory / name).exists() for name in _FILES)


def _request(messages: Sequence[Mapping[str, str]]) -> Request:
    roles = {"system": "developer"}  # a template's name for it comes back when the conversation is rendered
    found = tuple(Message(roles.get(one["role"], one["role"]), (TextPart(one["content"]),)) for one in messages)  # type: ignore[arg-type]
    return Request("student", found)
