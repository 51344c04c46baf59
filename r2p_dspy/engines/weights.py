"""Finding, fingerprinting and loading the weights of in-process models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from r2p_dspy.engines import gguf_files
from r2p_dspy.engines.fetch import PACKAGED, packaged_directory
from r2p_dspy.errors import ConfigError
from r2p_dspy.files import digest

if TYPE_CHECKING:  # importing it takes seconds
    from transformers import PreTrainedModel

Read = TypeVar("Read")

POCKET = Path(__file__).resolve().parent.parent / "pocket"

# The files that decide the answers. A model card, a training log or an optimizer's state does not.
_FILES = (
    "*.safetensors pytorch_model*.bin config.json generation_config.json chat_template* tokenizer* "
    "special_tokens_map.json added_tokens.json vocab.* merges.txt"
).split()
_WINDOW, _WINDOWS = 1 << 20, 64
_LARGE = 50_000_000  # parameters


def locate(source: str, label: str | None = None) -> str:
    """The directory, or the name on the Hugging Face hub, that a source stands for.

    Args:
        source: `pocket`, `smollm2`, `gguf:FILE`, a directory that holds a transformers model, or a hub name such as
            `Qwen/Qwen3-0.6B`. The directory of a GGUF file is there when `made` has converted it.
        label: the name of the model in errors; default: as the `--model` option takes it.
    """
    label = label or f"model {option_value(source)!r}"
    if source == "pocket":
        if not list(POCKET.glob("*.safetensors")):
            raise ConfigError(
                "model 'pocket': its weights are missing from this installation (r2p_dspy/pocket holds no .safetensors "
                "file); reinstall r2p-dspy, train it with the project's recipe, or choose another model"
            )
        return str(POCKET)
    if source in PACKAGED:
        return str(packaged_directory(source))
    if source.startswith(gguf_files.PREFIX):
        return str(gguf_files.directory_of(_gguf(source), label))
    path = Path(source).expanduser()
    if source and path.is_dir():
        if not (path / "config.json").is_file():
            raise ConfigError(f"{label}: the directory holds no config.json; name the directory that does")
        return str(path.resolve())
    if source.startswith((".", "/", "~")) or source.count("/") != 1 or " " in source:
        raise ConfigError(f"{label}: no such directory; give a model directory or a hub name (ORG/NAME)")
    return source


def made(source: str, label: str | None = None) -> str:
    """As `locate`, after a GGUF file that is read for the first time was converted."""
    if source.startswith(gguf_files.PREFIX):
        return str(gguf_files.converted(_gguf(source), label or f"model {source!r}"))
    return locate(source, label)


def has_own_name(model: str) -> bool:
    """Whether `--model` takes an in-process model without `hf:`: pocket, smollm2 and `gguf:FILE`."""
    return model == "pocket" or model in PACKAGED or model.startswith(gguf_files.PREFIX)


def option_value(source: str) -> str:
    """A source as the `--model` option takes it."""
    return source if has_own_name(source) else f"hf:{source}"


def _gguf(source: str) -> Path:
    return Path(source.removeprefix(gguf_files.PREFIX))


def fingerprint(directory: str | Path) -> str:
    """A hash of the weights, the tokenizer, the chat template and the configuration, as 16 hex digits.

    Files above 64 MiB are sampled in 64 windows of 1 MiB, so that a model of many gigabytes takes a second.
    """
    return digest(_sampled(Path(directory)))


def _sampled(directory: Path) -> Iterator[bytes]:
    for path in sorted({path for pattern in _FILES for path in directory.glob(pattern)}):
        size = path.stat().st_size
        yield f"{path.name}\0{size}\0".encode()
        with path.open("rb") as file:
            if size <= _WINDOW * _WINDOWS:
                yield file.read()
            else:
                for i in range(_WINDOWS):
                    file.seek((size - _WINDOW) * i // (_WINDOWS - 1))
                    yield file.read(_WINDOW)


def load(source: str, *, device: str | None, dtype: str | None) -> tuple[PreTrainedModel, Any, Path]:
    """Load a causal language model, in evaluation mode, and its tokenizer; return both and their directory.

    Without a dtype, a model runs on a GPU in that of its checkpoint. On a CPU it runs in float32, or in bfloat16 where
    the processor multiplies that faster and the model is not small.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import cached_file

    name = made(source)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    chosen = dtype or ("float32" if torch.device(device).type == "cpu" else "auto")

    def read(here: bool) -> tuple[PreTrainedModel, Any, Path]:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=here)  # nosec B615  # the user names it
        # In the type that it is stored in: another copy of a large model, in float32, stays in the process for good.
        read_as = "auto" if dtype is None else chosen
        model = AutoModelForCausalLM.from_pretrained(name, dtype=read_as, local_files_only=here)  # nosec B615
        if dtype is None and chosen == "float32":
            model = model.bfloat16() if is_narrowed(model) else model.float()
        directory = Path(name) if Path(name).is_dir() else Path(cached_file(name, "config.json")).parent
        return model.to(device).eval(), tokenizer, directory

    return from_disk_or_hub(name, f"model {option_value(source)!r}", read)


def is_large(model: PreTrainedModel) -> bool:
    """Whether a step of a model computes for longer than it waits for memory, threads and Python."""
    parameters: int = model.num_parameters()
    return parameters >= _LARGE


def is_narrowed(model: PreTrainedModel) -> bool:
    """Whether a CPU runs this model in bfloat16, unless another type is asked for."""
    return is_large(model) and _multiplies_bfloat16()


def _multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for products of bfloat16; others only convert, which is slower than float32."""
    import torch

    capabilities: dict[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # older versions of torch do not say
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def from_disk_or_hub(name: str, label: str, read: Callable[[bool], Read]) -> Read:
    """Call `read(local_files_only)`: first with the disk alone, then with the hub. It may raise anything."""
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        for here in (True, False):  # the disk first: a network may be missing or slow
            try:
                return read(here)
            except Exception as cause:  # transformers, the hub and broken files raise errors of many kinds
                if here and not Path(name).is_dir():
                    continue
                reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
                raise ConfigError(f"{label} cannot be loaded ({reason}); check the name") from cause
    finally:
        if shown:
            enable_progress_bar()
    raise AssertionError("unreachable")
