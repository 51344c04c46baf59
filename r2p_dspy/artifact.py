"""A compiled program as a file: plain JSON, with no key, no endpoint, no code in it."""

import copy
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import dspy
from pydantic import BaseModel, ValidationError

from r2p_dspy.profile import Profile
from r2p_dspy.r2p import R2P

FORMAT = 1
_OPTIONAL = {"synthesize"}  # a predictor that only some wrappers of a program have
_PACKAGES = ("dspy", "litellm", "pydantic", "transformers", "torch")


class ArtifactError(ValueError):
    """A program file that cannot be loaded here; one line says why and what to do."""


def save_program(
    program: R2P,
    path: str | Path,
    *,
    task: str | None = None,
    notes: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> Path:
    """Write a program's instructions and demos to a JSON file, whole or not at all.

    The file holds demos, and so texts from users' histories: treat it as you treat those.

    Args:
        program: what to save; no LM is saved with it.
        path: of the file; its folder must exist.
        task: the name of the task that it is for.
        notes: provenance to keep beside it (data, optimizer, scores); must be JSON.
        settings: what the program is to be built with, such as retriever and k; must be JSON. See `saved_settings`.

    Returns:
        The file's path.

    Raises:
        OSError: when the file cannot be written.

    Example:
        >>> import tempfile
        >>> from r2p_dspy.profile import Profile
        >>> class Tag(dspy.Signature):
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> saved = save_program(R2P(Tag), Path(tempfile.mkdtemp()) / "tag.json", task="mine")
        >>> load_program(R2P(Tag), saved, task="mine")["task"]
        'mine'
    """
    path = Path(path)
    data = {
        "format": FORMAT,
        "kind": "r2p-dspy program",
        "warning": "Demos hold texts from users' histories.",
        "task": task,
        "template": [stage.name for stage in program.reason.template.leaves()],
        "fields": _fields(program).model_dump(),
        "versions": _versions(),
        "notes": notes or {},
        "settings": settings or {},
        "state": {name: _state(parameter) for name, parameter in program.named_parameters()},
    }
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def load_program(program: R2P, path: str | Path, *, task: str | None = None) -> dict[str, Any]:
    """Put a file's instructions and demos into a program of the same shape.

    Args:
        program: a program built for the same signature and template; it is changed, or left as it was on an error.
        path: of the file.
        task: the task that it must be for; None accepts any.

    Returns:
        The file's contents beside the state: task, template, fields, versions, notes, settings.

    Raises:
        ArtifactError: for a missing or damaged file, a newer format, another task, other fields or stages.
    """
    data = _read(Path(path))
    held = _held(data, path)
    if task is not None and held.task != task:
        raise ArtifactError(f"{path} is a program for task {held.task!r}, not {task!r}; give the file of that task")
    template = [stage.name for stage in program.reason.template.leaves()]
    if held.template != template:
        raise ArtifactError(
            f"{path} has the stages {', '.join(held.template)}, the program has {', '.join(template)}; "
            "build the program with the template that it was compiled with"
        )
    fields = _fields(program)
    if held.fields != fields:
        theirs, ours = {*held.fields.inputs, *held.fields.outputs}, {*fields.inputs, *fields.outputs}
        apart = sorted(theirs ^ ours) or ["in another order"]
        raise ArtifactError(f"{path} does not fit the signature: these fields differ: {', '.join(apart)}")
    parameters = dict(program.named_parameters())
    if (set(held.state) ^ set(parameters)) - _OPTIONAL:
        raise ArtifactError(
            f"{path} holds the predictors {', '.join(held.state)}, the program has {', '.join(parameters)}"
        )
    parameters = {name: parameter for name, parameter in parameters.items() if name in held.state}
    for name in parameters:
        state = held.state[name]
        _check_fields(state.signature, parameters[name].signature, program.reason.profile, path)
        _check_demos(state.demos, program.reason.profile, path)
    for name, parameter in parameters.items():
        lm = parameter.lm
        parameter.load_state({**held.state[name].model_dump(), "lm": None})
        parameter.lm = lm
    return {key: value for key, value in data.items() if key != "state"}


def saved_settings(path: str | Path) -> dict[str, Any]:
    """What a file's program is to be built with, before `load_program` fills it; nothing of it is checked.

    Args:
        path: of the file.

    Returns:
        The settings as they were saved; empty where there are none.

    Raises:
        ArtifactError: for a file that is missing, or no program.

    Example:
        >>> saved_settings("nowhere.json")
        Traceback (most recent call last):
        r2p_dspy.artifact.ArtifactError: nowhere.json does not exist; compile makes such a file (RUN/program.json)
    """
    return _read(Path(path)).get("settings") or {}


class _Field(BaseModel):
    prefix: str
    description: str


class _Signature(BaseModel):
    instructions: str
    fields: list[_Field]


class _Predictor(BaseModel):
    """What is taken from a file for a predictor, and no more: DSPy would set whatever attribute it finds there."""

    signature: _Signature
    demos: list[dict[str, Any]]


class _Names(BaseModel):
    inputs: list[str]
    outputs: list[str]


class _Held(BaseModel):
    task: str | None
    template: list[str]
    fields: _Names
    state: dict[str, _Predictor]


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; compile makes such a file (RUN/program.json)") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read as a program: {error}") from None
    if not isinstance(data, dict) or data.get("kind") != "r2p-dspy program":
        raise ArtifactError(f"{path} is no r2p-dspy program; compile makes such a file (RUN/program.json)")
    if not isinstance(data.get("format"), int) or not 1 <= data["format"] <= FORMAT:
        raise ArtifactError(
            f"{path} has format {data.get('format')}, this version reads up to {FORMAT}; update r2p-dspy"
        )
    return data


def _held(data: dict[str, Any], path: str | Path) -> _Held:
    try:
        return _Held.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{path} is damaged at {where!r}: {first['msg']}; compile it again") from None


def _check_fields(saved: _Signature, own: type[dspy.Signature], profile: str, path: str | Path) -> None:
    """DSPy puts a saved description on whatever field stands in its place, so they must stand in the same ones."""
    prefixes = [info.json_schema_extra["prefix"] for info in own.fields.values()]
    if [one.prefix for one in saved.fields] != prefixes:
        raise ArtifactError(f"{path} is damaged: its descriptions are not those of the fields; compile it again")
    # What says that a history is data and never instructions is the program's own, whatever a file says.
    at = list(own.fields).index(profile) if profile in own.fields else None
    if at is not None:
        saved.fields[at].description = own.fields[profile].json_schema_extra["desc"]


def _check_demos(demos: list[dict[str, Any]], profile: str, path: str | Path) -> None:
    for number, demo in enumerate(demos, start=1):
        try:
            Profile.of(demo.get(profile, ""))
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(f"{path} is damaged: demo {number} has no readable {profile}: {reason}") from None


def _state(parameter: Any) -> dict[str, Any]:
    bare = copy.copy(parameter)
    bare.lm = None  # first, as an engine of one's own need not be savable
    return bare.dump_state()


def _fields(program: R2P) -> _Names:
    signature: type[dspy.Signature] = program.reason.signature
    return _Names(inputs=[*signature.input_fields], outputs=[*signature.output_fields])


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
