"""Save a compiled program to a file and load it: plain JSON, without keys, endpoints or code."""

import importlib.metadata
import json
import platform
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dspy

from r2p_dspy.artifact_file import Artifact, Predictor, read_artifact, write_artifact
from r2p_dspy.errors import ArtifactError
from r2p_dspy.profile import Profile
from r2p_dspy.r2p import R2P
from r2p_dspy.values.media import check_inline
from r2p_dspy.values.typed import plain, read
from r2p_dspy.version import __version__

_OPTIONAL = {"synthesize"}  # a predictor that a program has only with several candidates
_PACKAGES = ("dspy", "litellm", "pydantic", "transformers", "torch")


def save_program(
    program: R2P,
    path: str | Path,
    *,
    task: str | None = None,
    notes: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write a program's instructions and demos to a JSON file, whole or not at all.

    Demos hold texts from users' histories. Protect the file as you protect those texts, or leave them out with
    `redacted`.

    Args:
        program: the program to save. Its language model is not saved.
        path: the file. Its folder must exist.
        task: the name of the task that the program is for.
        notes: the program's provenance (data, model, optimizer, metric, scores), as JSON.
        settings: how the program around its predictors was built (retriever, k, candidates), as JSON.

    Returns:
        The file's path.

    Raises:
        OSError: the file cannot be written.
        TypeError: notes or settings are no JSON.

    Examples:
        >>> import tempfile
        >>> from r2p_dspy.profile import Profile
        >>> class Tag(dspy.Signature):
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> saved = save_program(R2P(Tag), Path(tempfile.mkdtemp()) / "tag.json", task="mine")
        >>> load_program(R2P(Tag), saved, task="mine")["task"]
        'mine'
    """
    write_artifact(artifact_of(program, task=task, notes=notes, settings=settings), path)
    return Path(path)


def load_program(
    program: R2P, path: str | Path, *, task: str | None = None, lm: dspy.BaseLM | None = None
) -> dict[str, Any]:
    """Load a file's instructions, descriptions and demos into a program with the same fields and stages.

    Fields are matched by name, so the signature may list them in another order. Descriptions are the file's, since the
    program was measured with them; only the profile's description stays the program's own.

    Args:
        program: a program with the same fields and stages. It is changed, or left as it was if an error is raised.
        path: the file, or a run directory that holds it as `program.json`.
        task: the name of the task that the file must be for. None accepts any.
        lm: the language model to bind to the program. None leaves the program's as it is.

    Returns:
        The contents of the file except the predictors: task, template, notes, settings, versions and so on.

    Raises:
        ArtifactError: the file is missing or damaged, or of a newer format, another task, other fields or stages.
    """
    artifact = read_artifact(path)
    if task is not None and artifact.task != task:
        raise ArtifactError(f"{path} is a program for task {artifact.task!r}, not {task!r}; give the file of that task")
    own = artifact_of(program)
    if mismatch := _mismatch({"stage": artifact.template}, {"stage": own.template}):
        raise ArtifactError(f"{path} {mismatch}; build the program with the template that it was compiled with")
    if odd := (set(artifact.predictors) ^ set(own.predictors)) - _OPTIONAL:
        theirs, ours = ", ".join(artifact.predictors) or "none", ", ".join(own.predictors)
        raise ArtifactError(f"{path} does not fit at {min(odd)}: its predictors are {theirs}, the program's are {ours}")
    predictors = {name: part for name, part in program.named_parameters() if name in artifact.predictors}
    states = {  # all of them before the first is loaded: an error changes nothing
        name: _state(artifact.predictors[name], predictor, program.reason.profile, f"{path} ({name})")
        for name, predictor in predictors.items()
    }
    for name, predictor in predictors.items():
        bound = predictor.lm
        predictor.load_state(states[name])
        predictor.lm = bound
    if lm is not None:
        program.set_lm(lm)
    return artifact.model_dump(exclude={"predictors"})


def artifact_of(
    program: R2P,
    *,
    task: str | None = None,
    notes: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Artifact:
    """Return a program as the data that `save_program` writes; the arguments are the same.

    Examples:
        >>> class Tag(dspy.Signature):
        ...     profile: Profile = dspy.InputField()
        ...     tag: str = dspy.OutputField()
        >>> list(artifact_of(R2P(Tag)).predictors["reason"].outputs)[-2:]
        ['verification', 'tag']
    """
    profile = program.reason.profile
    return Artifact(
        task=task,
        made=datetime.now(UTC).date().isoformat(),
        versions=_versions(),
        notes=dict(notes or {}),
        settings=dict(settings or {}),
        template=[stage.name for stage in program.reason.template.leaves()],
        predictors={name: _contents(predictor, profile) for name, predictor in program.named_parameters()},
    )


def _contents(predictor: Any, profile: str) -> Predictor:  # Any: `named_parameters` is untyped
    signature = predictor.signature
    return Predictor(
        instructions=signature.instructions,
        inputs={name: info.json_schema_extra["desc"] for name, info in signature.input_fields.items()},
        outputs={name: info.json_schema_extra["desc"] for name, info in signature.output_fields.items()},
        demos=[_saved(dict(demo), signature, profile) for demo in predictor.demos],
    )


def _saved(demo: Mapping[str, Any], signature: Any, profile: str) -> dict[str, Any]:
    """A demo as JSON; `_demo` is the inverse."""
    kept = _fields(demo, signature)
    if kept.get(profile) is not None:
        kept[profile] = [json.loads(str(item)) for item in Profile.of(kept[profile])]
    return {name: plain(value) for name, value in kept.items()}


def _fields(demo: Mapping[str, Any], signature: Any) -> dict[str, Any]:
    """What a file keeps of a demo."""
    return {name: value for name, value in demo.items() if name in signature.fields or name == "augmented"}


def _state(contents: Predictor, predictor: Any, profile: str, where: str) -> dict[str, Any]:
    """Make the argument of `dspy.Predict.load_state`, and no more: it sets every attribute that it finds there."""
    fields = predictor.signature.fields
    theirs = {"input": contents.inputs, "output": contents.outputs}
    ours = {"input": predictor.signature.input_fields, "output": predictor.signature.output_fields}
    if mismatch := _mismatch(theirs, ours):
        raise ArtifactError(f"{where} {mismatch}; build the program with the signature that it was compiled with")
    descriptions = {**contents.inputs, **contents.outputs}
    # It says that a history is data, never instructions: no file may change that.
    descriptions[profile] = fields[profile].json_schema_extra["desc"]
    signature = {
        "instructions": contents.instructions,
        "fields": [  # DSPy matches them by position, so they stand in the order of the program's fields
            {"prefix": info.json_schema_extra["prefix"], "description": descriptions[name]}
            for name, info in fields.items()
        ],
    }
    demos = [_demo(demo, predictor, profile, f"{where}: demo {n}") for n, demo in enumerate(contents.demos, start=1)]
    return {"signature": signature, "demos": demos, "traces": [], "train": [], "lm": None}


def _demo(demo: Mapping[str, Any], predictor: Any, profile: str, where: str) -> dict[str, Any]:
    """A demo with outputs of the program's types, in the form that DSPy loads; an error for a value of no such type."""
    kept = _fields(demo, predictor.signature)
    name = profile
    try:
        if kept.get(profile) is not None:
            kept[profile] = str(Profile.of(kept[profile]))
        for name in predictor.signature.input_fields:
            check_inline(kept.get(name))
        for name, info in predictor.signature.output_fields.items():
            if kept.get(name) is not None:
                if info.annotation is str and isinstance(kept[name], dict | list):
                    raise TypeError("it is no text")
                kept[name] = read(info.annotation, kept[name])
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{where} has no {name} that the program can read: {str(error)[:300]}") from None
    return kept


def _mismatch(theirs: Mapping[str, Collection[str]], ours: Mapping[str, Collection[str]]) -> str:
    """Say which names, by kind, only the file or only the program has; "" if both have the same."""
    only_theirs, only_ours = (
        ", ".join(f"{kind} {name}" for kind in names for name in names[kind] if name not in others[kind]) or "nothing"
        for names, others in ((theirs, ours), (ours, theirs))
    )
    if only_theirs == only_ours:
        return ""
    return f"does not fit: the file alone has {only_theirs}; the program alone has {only_ours}"


def _versions() -> dict[str, str]:
    versions = {"r2p-dspy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
