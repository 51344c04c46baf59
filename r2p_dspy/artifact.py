"""A compiled program as a file: plain JSON, with no key, no endpoint, no code in it."""

import copy
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dspy
from dspy.adapters.utils import parse_value

from r2p_dspy.artifact_file import Artifact, Predictor, read_artifact, write_artifact
from r2p_dspy.errors import ArtifactError, ConfigError
from r2p_dspy.profile import Profile
from r2p_dspy.r2p import R2P
from r2p_dspy.version import __version__

_OPTIONAL = {"synthesize"}  # a predictor that only some wrappers of a program have
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

    The file holds demos, and so texts from users' histories: treat it as you treat those, or see `redacted`.

    Args:
        program: what to save; no LM is saved with it.
        path: of the file; its folder must exist.
        task: the name of the task that it is for.
        notes: provenance to keep beside it (data, model, optimizer, metric, scores); must be JSON.
        settings: how the program around its predictors was built (retriever, k, candidates); must be JSON.

    Returns:
        The file's path.

    Raises:
        OSError: when the file cannot be written.
        TypeError: when notes or settings are no JSON.

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
    write_artifact(artifact_of(program, task=task, notes=notes, settings=settings), path)
    return Path(path)


def load_program(
    program: R2P, path: str | Path, *, task: str | None = None, lm: dspy.BaseLM | None = None
) -> dict[str, Any]:
    """Put a file's instructions, descriptions and demos into a program of the same fields and stages.

    They are matched by name: the class may have its fields in another order. What it describes anew gets the file's
    words, as those are what the program was measured with; a profile's description alone is the program's own.

    Args:
        program: a program built for the same fields and stages; it is changed, or left as it was on an error.
        path: of the file.
        task: the task that it must be for; None accepts any.
        lm: what to bind to the program; None leaves it as it is, so that the configured one answers.

    Returns:
        The file's contents beside the predictors: task, template, notes, settings, versions and so on.

    Raises:
        ArtifactError: for a missing or damaged file, a newer format, another task, other fields or stages.
    """
    artifact = read_artifact(path)
    if task is not None and artifact.task != task:
        raise ArtifactError(f"{path} is a program for task {artifact.task!r}, not {task!r}; give the file of that task")
    own = artifact_of(program)
    if apart := _apart({"stage": artifact.template}, {"stage": own.template}):
        raise ArtifactError(f"{path} {apart}; build the program with the template that it was compiled with")
    if odd := (set(artifact.predictors) ^ set(own.predictors)) - _OPTIONAL:
        theirs, ours = ", ".join(artifact.predictors) or "none", ", ".join(own.predictors)
        raise ArtifactError(f"{path} does not fit at {min(odd)}: its predictors are {theirs}, the program's are {ours}")
    named = [(name, one) for name, one in program.named_parameters() if name in artifact.predictors]
    states = [_state(artifact.predictors[name], one, program.reason.profile, f"{path} ({name})") for name, one in named]
    for (_, predictor), state in zip(named, states, strict=True):
        bound = predictor.lm
        predictor.load_state(state)
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
    """A program as what `save_program` writes.

    Args:
        program, task, notes, settings: as of `save_program`.

    Example:
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
        predictors={name: _held(one, profile) for name, one in program.named_parameters()},
    )


def _held(predictor: Any, profile: str) -> Predictor:
    bare = copy.copy(predictor)
    bare.lm = None  # first, as an engine of one's own need not be savable
    signature = predictor.signature
    demos = []
    for held in bare.dump_state()["demos"]:
        demo = {name: value for name, value in held.items() if name in signature.fields or name == "augmented"}
        if demo.get(profile) is not None:
            demo[profile] = [json.loads(str(item)) for item in Profile.of(demo[profile])]
        demos.append(demo)
    return Predictor(
        instructions=signature.instructions,
        inputs={name: info.json_schema_extra["desc"] for name, info in signature.input_fields.items()},
        outputs={name: info.json_schema_extra["desc"] for name, info in signature.output_fields.items()},
        demos=demos,
    )


def _state(held: Predictor, predictor: Any, profile: str, where: str) -> dict[str, Any]:
    """What `dspy.Predict.load_state` takes, and no more: it would set whatever attribute it finds there.

    DSPy puts a description on whatever field stands in its place, so here they stand in the program's own order.
    """
    fields = predictor.signature.fields
    theirs = {"input": held.inputs, "output": held.outputs}
    if apart := _apart(
        theirs, {"input": predictor.signature.input_fields, "output": predictor.signature.output_fields}
    ):
        raise ArtifactError(f"{where} {apart}; build the program with the signature that it was compiled with")
    described = {**held.inputs, **held.outputs}
    # What says that a history is data and never instructions is the program's own, whatever a file says.
    described[profile] = fields[profile].json_schema_extra["desc"]
    prefixes = {name: info.json_schema_extra["prefix"] for name, info in fields.items()}
    signature = {
        "instructions": held.instructions,
        "fields": [{"prefix": prefixes[name], "description": described[name]} for name in fields],
    }
    demos = [_demo(demo, predictor, profile, f"{where}: demo {n}") for n, demo in enumerate(held.demos, start=1)]
    return {"signature": signature, "demos": demos, "traces": [], "train": [], "lm": None}


def _demo(demo: Mapping[str, Any], predictor: Any, profile: str, where: str) -> dict[str, Any]:
    """A demo as DSPy's own loading gives it, after a look whether its values are what the fields hold today."""
    kept = {name: value for name, value in demo.items() if name in predictor.signature.fields or name == "augmented"}
    name = profile
    try:
        if kept.get(profile) is not None:
            kept[profile] = str(Profile.of(kept[profile]))
        for name, info in predictor.signature.output_fields.items():
            if kept.get(name) is not None:
                if info.annotation is str and isinstance(kept[name], dict | list):
                    raise ConfigError("it is no text")
                parse_value(kept[name], info.annotation)
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{where} has no {name} that the program can read: {str(error)[:300]}") from None
    return kept


def _apart(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """In words, which names only one of two has, by kind; "" when they have the same."""
    alone = [
        ", ".join(f"{kind} {name}" for kind in one for name in one[kind] if name not in other[kind])
        for one, other in ((theirs, ours), (ours, theirs))
    ]
    if not any(alone):
        return ""
    return f"does not fit: the file alone has {alone[0] or 'nothing'}; the program alone has {alone[1] or 'nothing'}"


def _versions() -> dict[str, str]:
    found = {"r2p-dspy": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
