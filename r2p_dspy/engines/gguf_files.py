"""GGUF files as models of transformers: dequantized once, and kept in the model cache."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from r2p_dspy.engines.model_cache import SOURCE, building, check_room, models_folder
from r2p_dspy.errors import ConfigError

PREFIX = "gguf:"
_MAGIC = b"GGUF"
_NEEDED = ("torch", "transformers", "gguf", "accelerate")  # transformers loads no GGUF file without the last two
_BYTES = 2  # of a weight in bfloat16
_BESIDE = 32 << 20  # bytes for the tokenizer and the configuration


def directory_of(file: Path, label: str) -> Path:
    """Where the converted model of a GGUF file is, or will be; raises ConfigError if there is no such file."""
    path = file.expanduser()
    try:
        with path.open("rb") as opened:
            is_gguf = opened.read(len(_MAGIC)) == _MAGIC
    except OSError as cause:
        raise ConfigError(f"{label}: no such file ({cause.strerror}); give the path of a .gguf file") from cause
    if not is_gguf:
        raise ConfigError(f"{label}: this is no GGUF file; give a .gguf file, or hf:DIR for a model directory")
    state = path.stat()
    return models_folder() / sha256_of(path.resolve(), state.st_size, state.st_mtime_ns)[:16]


def converted(file: Path, label: str) -> Path:
    """The directory of a GGUF file's model; the first call for these contents makes it."""
    directory = directory_of(file, label)
    if not directory.is_dir():
        check_installed(label)
        with building(directory) as part:
            if part is not None:
                convert(file.expanduser(), part, label)
    return directory


def check_installed(label: str) -> None:
    """Raise a ConfigError if a package that converting needs is missing."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(f"{label} needs {', '.join(missing)}: pip install '.[local]'")


def convert(file: Path, directory: Path, label: str) -> None:
    """Write a GGUF file's model, in bfloat16, and its tokenizer to a directory of the cache.

    Raises:
        ConfigError: the file is truncated, transformers does not read its architecture, or the disk is full.
    """
    from gguf import GGUFReader

    try:
        parameters = sum(int(tensor.n_elements) for tensor in GGUFReader(file).tensors)
    except Exception as cause:  # the reader trusts the numbers in the file, and fails in many ways where they are wrong
        raise ConfigError(f"{label}: the file is truncated or damaged ({_reason(cause)}); get it again") from cause
    check_room(directory, _BYTES * parameters + _BESIDE)
    try:
        _write(file, directory)
    except Exception as cause:  # of transformers, of its conversions for each architecture, and of the disk
        raise ConfigError(
            f"{label} cannot be converted ({_reason(cause)}); give a GGUF file of another architecture or type, or the "
            "original model as hf:DIR_OR_NAME"
        ) from cause
    state = file.stat()
    about = {
        "file": file.name,
        "sha256": sha256_of(file.resolve(), state.st_size, state.st_mtime_ns),
        "parameters": parameters,
        "transformers": version("transformers"),
    }
    (directory / SOURCE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _write(file: Path, directory: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = file.resolve().parent, file.resolve().name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)  # nosec B615  # a file
    model, loaded = AutoModelForCausalLM.from_pretrained(  # nosec B615
        folder,
        gguf_file=name,
        quantization_config=GgufConfig(dequantize=True),  # packed weights are slow on a CPU, and cannot be saved
        dtype=torch.bfloat16,
        output_loading_info=True,
    )
    # transformers fills what is missing with random numbers: of a file that is one part of several, for example.
    if missing := sorted(loaded["missing_keys"]):
        raise ValueError(f"the file lacks {missing[0]}")
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


@lru_cache
def sha256_of(path: Path, size: int, modified_ns: int) -> str:
    """The SHA-256 of a file, remembered until its size or its time of change is another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(cause: Exception) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0].rstrip(".")
