"""Embedders for `Dense`, made from a model's name."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import dspy
import numpy as np

from r2p_dspy.engines import weights
from r2p_dspy.engines.connect import is_served, refuse_address
from r2p_dspy.errors import ConfigError
from r2p_dspy.retrieval.dense import Embedder

_BATCH = 16
_NO_LIMIT = 1_000_000  # tokens; a tokenizer without a limit names an astronomic one


def embedder(name: str) -> Embedder:
    """Make an embedder from a model's name.

    Args:
        name: a directory with a transformers model, or its name on the Hugging Face hub, such as `facebook/contriever`:
            the model runs in this process (see `MeanPooling`). Or a served model as DSPy names it, such as
            `openai/text-embedding-3-small`: its key comes from the environment. The prefix `hf:` marks a name that
            looks like a served model's and is a directory or a hub name.

    For a server of your own, give `Dense` a `dspy.Embedder` with its `api_base`.

    Returns:
        A function from a list of texts to an array (texts, d). Compare its vectors by inner product, with
        `Dense(…, normalize=False)`: vectors of served models and of sentence-transformers models have unit length
        already, and vectors of others, such as Contriever, must keep their length.

    Raises:
        ConfigError: the model cannot be found or loaded, or its name holds an address. A served model's failure, such
            as a missing key, is raised at the first call.

    Examples:
        >>> embedder("./nowhere")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ConfigError: embedder './nowhere': no such directory; give a model directory or a hub name (ORG/NAME)
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else prices are fetched from the network
    refuse_address(f"embedder {name!r}", name)
    source = name.removeprefix("hf:")
    if source == name and not Path(name).expanduser().is_dir() and is_served(name):
        return Served(name)
    try:
        return MeanPooling(source)
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"embedder {name!r} runs in this process, which needs {missing.name}: pip install '.[local]'"
        ) from missing


class MeanPooling:
    """Embed a text as the mean of a transformers model's token vectors, as Contriever does.

    Texts longer than the model's context are cut off. The vectors of a sentence-transformers model (it has a
    `modules.json`) are scaled to unit length, since such models compare by cosine. Source: `mean_pooling` in LaMP's
    `rank_profiles.py` and in Contriever's model card.

    Args:
        name: a directory or a name on the Hugging Face hub.
        device: a torch device. Default: the first GPU, else the CPU.

    Raises:
        ConfigError: the model cannot be loaded or used, or needs another pooling than the mean.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        import torch
        from transformers import AutoTokenizer

        label = f"embedder {name!r}"
        source = weights.made(name, label)

        def read(local: bool) -> tuple[Any, Any, bool, bool]:  # transformers' classes are untyped
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=local)  # nosec B615  # the user names it
            return tokenizer, _model(source, local), *_pooling(source)

        self._tokenizer, model, self._unit, mean = weights.from_disk_or_hub(source, label, read)
        if not mean:
            raise ConfigError(
                f"{label} needs more than the mean of its token vectors; load it with sentence-transformers, and give "
                "its `encode` to r2p_dspy.Dense"
            )
        self._model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        limits = (self._tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
        self._longest = min((limit for limit in limits if limit and limit < _NO_LIMIT), default=512)
        self._lock = threading.Lock()  # one forward pass at a time: several would share the same cores and memory
        try:
            self(["a text", "another one, which is longer"])
        except Exception as cause:  # the model needs more than texts, the tokenizer cannot pad, …
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise ConfigError(f"{label} cannot make vectors of texts ({reason}); use an encoder model") from cause

    def __call__(self, texts: list[str]) -> np.ndarray:
        with self._lock:
            return np.concatenate([self._batch(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)])

    def _batch(self, texts: list[str]) -> np.ndarray:
        import torch

        encoded = self._tokenizer(texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        encoded = encoded.to(self._model.device)
        with torch.inference_mode():
            tokens = self._model(**encoded).last_hidden_state
            mask = encoded["attention_mask"][..., None].to(tokens.dtype)
            means = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            return np.asarray((torch.nn.functional.normalize(means) if self._unit else means).cpu())


class Served:
    """Embed texts with a served model, through `dspy.Embedder`; vectors have unit length."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._embedder = dspy.Embedder(name)

    def __call__(self, texts: list[str]) -> np.ndarray:
        try:
            vectors = np.asarray(self._embedder([text or " " for text in texts]))  # some providers refuse empty texts
        except Exception as cause:  # the client, the provider and the network each raise their own
            reason = " ".join(str(cause).split())[:300]
            raise ConfigError(
                f"embedder {self.name!r} failed ({reason}); check the name and the network, and set its key in the "
                "environment"
            ) from cause
        unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
        return unit


def _model(source: str, local: bool) -> Any:
    """Load a model with all its weights. The pooler is not used, so transformers' warning about it is silenced."""
    from transformers import AutoModel
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, info = AutoModel.from_pretrained(  # nosec B615
            source, dtype="float32", local_files_only=local, output_loading_info=True
        )
    finally:
        logging.set_verbosity(level)
    if missing := sorted(key for key in info["missing_keys"] if "pooler" not in key):
        raise ConfigError(f"its weights lack {missing[0]}")
    return model


def _pooling(source: str) -> tuple[bool, bool]:
    """Whether a model is a sentence-transformers model, and whether the mean of its token vectors is all it needs."""
    modules = _optional(source, "modules.json")
    if modules is None:
        return False, True
    kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    config = _optional(source, f"{kinds.get('Pooling')}/config.json") or {}
    mean = config.get("pooling_mode_mean_tokens", config.get("pooling_mode") == "mean")
    return True, mean and kinds.keys() <= {"Transformer", "Pooling", "Normalize"}


def _optional(source: str, file: str) -> Any:  # whatever the JSON holds
    """Read a JSON file of a model; None if it has no such file."""
    from huggingface_hub import try_to_load_from_cache
    from transformers.utils import cached_file

    path: Any = Path(source) / file
    if not Path(source).is_dir():
        # The cache may also know that the hub has no such file. If it knows nothing, the hub is asked.
        path = try_to_load_from_cache(source, file) or cached_file(
            source, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )
    if not isinstance(path, str | Path) or not Path(path).is_file():
        return None
    return json.loads(Path(path).read_text(encoding="utf-8"))
