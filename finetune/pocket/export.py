"""Export a trained model as package data: bfloat16 weights, tokenizer, recipe and log."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from finetune.pocket.train import Recipe
from r2p_dspy.errors import ConfigError
from r2p_dspy.files import atomic_path

_LIMIT = 12 * 2**20  # bytes


def export(model: Any, tokenizer: Any, recipe: Recipe, directory: Path, target: Path) -> None:
    """Write a model as package data.

    Args:
        model: the trained model; its weights are stored as bfloat16.
        tokenizer: its tokenizer.
        recipe: its recipe, stored as `recipe.json`.
        directory: the training's directory; its log is copied.
        target: the model's directory, written whole or not at all.

    Raises:
        ConfigError: the weights take more than 12 MB.
    """
    with atomic_path(target) as part:
        part.mkdir(parents=True)
        model.to(torch.bfloat16).save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / "recipe.json").write_text(json.dumps(asdict(recipe), indent=2) + "\n")
        log = directory / "log.jsonl"
        if log.exists():
            shutil.copy(log, part / "training.jsonl")
        size = (part / "model.safetensors").stat().st_size
        if size > _LIMIT:
            raise ConfigError(f"the weights take {size / 2**20:.1f} MB; the limit is {_LIMIT // 2**20} MB")
        card = target / "README.md"
        if card.exists():  # people write the card, from measurements
            shutil.copy(card, part / "README.md")
