"""One string to an embedder, for `Dense`."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import dspy
import numpy as np

from r2p_dspy.engines import weights
from r2p_dspy.engines.connect import is_served
from r2p_dspy.errors import ConfigError
from r2p_dspy.retrieval.dense import Embedder

_BATCH = 16
_NO_LIMIT = 1_000_000  # a tokenizer that knows none has an astronomic one


def embedder(name: str) -> Embedder:
    """What makes vectors of texts, from a model's name.

    Args:
        name: a directory with a transformers model or its name on the Hugging Face hub, such as `facebook/contriever`,
            run in this process (see `MeanPooling`); or a served model as DSPy names it, such as
            `openai/text-embedding-3-small`, whose key is taken from the environment. `hf:` before a name says that it
            is none of these.

    Returns:
        A function from a list of texts to an array (texts, d). Its vectors are to be compared by inner product,
        `Dense(…, normalize=False)`: those of served models, and of models made for sentence-transformers, have unit
        length; those of others, such as Contriever, are left as they come.

    Raises:
        ValueError: one line that names the model and what to do, for one that cannot be found or loaded; a served
            model's failure, a missing key also, shows at the first call, as a ValueError too.

    Example:
        >>> embedder("./nowhere")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ConfigError: embedder './nowhere': no such directory; give a model directory or a hub name (ORG/NAME)
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else prices are fetched from the network
    here = name.removeprefix("hf:")
    if here == name and not Path(name).expanduser().is_dir() and is_served(name):
        return Served(name)
    try:
        return MeanPooling(here)
    except ModuleNotFoundError as missing:
        raise ConfigError(
            f"embedder {name!r} runs in this process, which needs {missing.name}: pip install '.[local]'"
        ) from missing


class MeanPooling:
    """A transformers model's token vectors, averaged over the tokens of each text, as Contriever was made to be used.

    Texts longer than the model reads are cut off. The vectors of a model that was made for sentence-transformers (it
    has a `modules.json`) are brought to unit length, since such are compared by cosine. Source: `mean_pooling` of
    LaMP's `rank_profiles.py` and of Contriever's model card.

    Args:
        name: a directory or a name on the Hugging Face hub.
        device: as torch names it; default: the first GPU, else the CPU.

    Raises:
        ValueError: one line, for a model that cannot be loaded or used, or was made for more than that mean.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        import torch
        from transformers import AutoTokenizer

        said = f"embedder {name!r}"
        where = weights.locate(name, said)

        def read(here: bool) -> tuple[Any, Any, bool, bool]:
            tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=here)
            return tokenizer, _model(where, here), *_pooling(where)

        self._tokenizer, model, self._unit, mean = weights.from_disk_or_hub(where, said, read)
        if not mean:
            raise ConfigError(
                f"{said} was made for more than the mean of its token vectors; load it with sentence-transformers, and "
                "give its `encode` to r2p_dspy.Dense"
            )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(device).eval()
        limits = (self._tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
        self._longest = min((limit for limit in limits if limit and limit < _NO_LIMIT), default=512)
        self._lock = threading.Lock()  # one forward pass at a time: more would share the same cores and memory
        try:
            self(["a text", "another one, which is longer"])
        except Exception as cause:  # of a model that needs more than texts, of a tokenizer that cannot pad, …
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise ConfigError(f"{said} cannot make vectors of texts ({reason}); take an encoder model") from cause

    def __call__(self, texts: list[str]) -> np.ndarray:
        """The vectors of texts: an array (texts, d)."""
        with self._lock:
            return np.concatenate([self._batch(texts[at : at + _BATCH]) for at in range(0, len(texts), _BATCH)])

    def _batch(self, texts: list[str]) -> np.ndarray:
        import torch

        given = self._tokenizer(texts, padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        given = given.to(self._model.device)
        with torch.inference_mode():
            tokens = self._model(**given).last_hidden_state
            mask = given["attention_mask"][..., None].to(tokens.dtype)
            means = (tokens * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            return (torch.nn.functional.normalize(means) if self._unit else means).cpu().numpy()


class Served:
    """A served embedding model, by `dspy.Embedder`: its vectors, of unit length; its failures in one line."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._embedder = dspy.Embedder(name)

    def __call__(self, texts: list[str]) -> np.ndarray:
        """The vectors of texts: an array (texts, d)."""
        try:
            made = self._embedder([text or " " for text in texts])  # some providers refuse an empty text
        except Exception as cause:  # whatever the client, the provider or the network raise
            reason = " ".join(str(cause).split())[:300]
            raise ConfigError(
                f"embedder {self.name!r} failed ({reason}); check the name and the network, and set its key in the "
                "environment"
            ) from cause
        return made / np.maximum(np.linalg.norm(made, axis=-1, keepdims=True), 1e-12)


def _model(where: str, here: bool) -> Any:
    """A model with all its weights; transformers' report of those of its pooler, which is not used, is kept back."""
    from transformers import AutoModel
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, info = AutoModel.from_pretrained(where, dtype="float32", local_files_only=here, output_loading_info=True)
    finally:
        logging.set_verbosity(level)
    if missing := sorted(key for key in info["missing_keys"] if "pooler" not in key):
        raise ConfigError(f"its weights lack {missing[0]}")
    return model


def _pooling(where: str) -> tuple[bool, bool]:
    """Whether a model was made for sentence-transformers, and whether the mean of its token vectors is all it needs."""
    modules = _optional(where, "modules.json")
    if modules is None:
        return False, True
    kinds = {module["type"].rpartition(".")[2]: module["path"] for module in modules}
    found = _optional(where, f"{kinds.get('Pooling')}/config.json") or {}
    mean = found.get("pooling_mode_mean_tokens", found.get("pooling_mode") == "mean")
    return True, mean and kinds.keys() <= {"Transformer", "Pooling", "Normalize"}


def _optional(where: str, file: str) -> Any:
    """A JSON file of a model, or None where it has no such file."""
    from huggingface_hub import try_to_load_from_cache
    from transformers.utils import cached_file

    found: Any = Path(where) / file
    if not Path(where).is_dir():
        # On disk may also stand that the hub has no such file; where nothing stands, it is asked.
        found = try_to_load_from_cache(where, file) or cached_file(
            where, file, _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False
        )
    if not isinstance(found, str | Path) or not Path(found).is_file():
        return None
    return json.loads(Path(found).read_text(encoding="utf-8"))
