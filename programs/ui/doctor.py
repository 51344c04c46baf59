"""`doctor`: what the commands need, whether it is here, and how to install it."""

import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from programs.text import one_line
from programs.ui.models_table import packaged_state
from programs.ui.terminal import Line, print_lines
from r2p_dspy.engines.fetch import PACKAGED
from r2p_dspy.errors import ConfigError

_EXTRAS = {  # by purpose: the extra of pyproject.toml, and the packages that show whether it is installed
    "the embedded model, hf: models": ("local", ("torch", "transformers", "safetensors")),
    "smollm2, gguf: models": ("local", ("gguf", "accelerate")),
    "the command line": (
        "cli",
        ("click", "rich", "ijson", "scikit-learn", "nltk", "matplotlib", "optuna", "filelock", "jinja2"),
    ),
    "finetune": ("train", ("trl", "datasets", "peft", "accelerate")),
    "--mlflow": ("mlflow", ("mlflow-skinny", "sqlalchemy", "alembic")),
    "--ray": ("ray", ("ray", "pyarrow")),
    "--vllm (GPU)": ("serve", ("vllm",)),
}
_OPTIONAL = ("smollm2, gguf: models", "finetune", "--mlflow", "--ray", "--vllm (GPU)")
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HOSTED_VLLM_API_KEY")


class Finding(NamedTuple):
    """What was found about one requirement."""

    what: str
    ok: bool | None  # whether it is met; None if no command depends on it
    detail: str  # what is there, or what to do


def findings(runs: Path = Path("runs")) -> Iterator[Finding]:
    """Check every requirement, slow checks last; `runs` is the parent of run directories."""
    yield Finding("Python", True, f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")
    for what, (extra, packages) in _EXTRAS.items():
        missing = [name for name in packages if _version(name) is None]
        if missing:
            advice = f"{', '.join(missing)} not installed: pip install '.[{extra}]'"
            yield Finding(what, None if what in _OPTIONAL else False, advice)
        else:
            yield Finding(what, True, ", ".join(f"{name} {_version(name)}" for name in packages[:3]))
    keys = [name for name in _KEYS if os.environ.get(name)]
    yield Finding("keys", None, f"in the environment: {', '.join(keys) or 'none'}")
    yield _disk(runs)
    for model in PACKAGED.values():
        yield Finding(model.name, True if model.directory.is_dir() else None, packaged_state(model))
    yield _tried("GPU", _gpu)
    yield _tried("pocket model", _pocket)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _disk(runs: Path) -> Finding:
    existing = next(path for path in (runs.absolute(), *runs.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    writable = os.access(existing, os.W_OK)
    return Finding("runs", writable and free > 1, f"{free:.0f} GB free{'' if writable else ', cannot be written'}")


def _gpu() -> tuple[bool | None, str]:
    import torch

    if not torch.cuda.is_available():
        return None, "none; everything runs on the CPU"
    total = torch.cuda.get_device_properties(0).total_memory / 1e9
    return True, f"{torch.cuda.get_device_name(0)}, {total:.0f} GB"


def _pocket() -> tuple[bool | None, str]:
    import dspy

    import programs
    from programs.data.dataset import personas
    from programs.tasks import TASKS
    from r2p_dspy import connect

    lm = connect("pocket", max_tokens=256)
    example = personas(TASKS["lamp2"], seed=0, limit=1).test[0]
    started = time.monotonic()
    with dspy.context(lm=lm):
        answer = programs.load("lamp2")(**example.inputs())
    return not answer.violations, f"{lm.model} answers in {time.monotonic() - started:.1f} s, every check met"


def print_findings() -> None:
    """Print every finding; refuse to go on if something is missing that commands need."""
    broken = 0
    for finding in findings():
        mark, style = {True: ("ok", "green"), False: ("missing", "bold red"), None: ("-", "dim")}[finding.ok]
        print_lines([Line(one_line(f"{mark}  {finding.what}: {finding.detail}"), style)])
        broken += finding.ok is False
    if broken:
        raise ConfigError(f"{broken} of these requirements are not met; see above for what is missing")


def _tried(what: str, check: Callable[[], tuple[bool | None, str]]) -> Finding:
    try:
        return Finding(what, *check())
    except Exception as error:
        return Finding(what, False, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
