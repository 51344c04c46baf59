"""The file of a compiled program: its contents, reading and writing it."""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from r2p_dspy.errors import ArtifactError
from r2p_dspy.files import read_bounded, write_atomic

KIND, FORMAT = "r2p-dspy program", 2
_MAX_BYTES, _MAX_VALUES, _MAX_DEPTH = 50_000_000, 500_000, 100  # a compiled program has less
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # half a character: models write it, and no prompt takes it


class Predictor(BaseModel):
    """A predictor in the file: its instructions, its fields' descriptions by name, and its demos.

    Args:
        demos: each a dict of fields by name; a profile is a list of its items.
        left_out: the number of demos that redaction removed.
    """

    instructions: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    demos: list[dict[str, Any]] = Field(default_factory=list)
    left_out: int = 0


class Artifact(BaseModel):
    """A compiled program as data.

    Args:
        warning: what everyone who handles the file must know.
        task: the name of the task that the program is for.
        made: the day it was made, `YYYY-MM-DD`, in UTC.
        versions: the versions of the libraries that made it.
        notes: its provenance: data, model, optimizer, metric, scores.
        settings: how the program around the predictors was built.
        redacted: whether users' texts were left out.
        template: the names of the stages.
        predictors: the predictors by their names in the program.
    """

    kind: str = KIND
    format: int = FORMAT
    warning: str = "Demos hold texts from users' histories."
    task: str | None
    made: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    notes: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    redacted: bool = False
    template: list[str]
    predictors: dict[str, Predictor]


def read_artifact(path: str | Path) -> Artifact:
    """Read a compiled program's file. Nothing in it is executed.

    Args:
        path: the file, or a run directory that holds it as `program.json`.

    Raises:
        ArtifactError: the file is missing or damaged, of another kind, or of a newer format.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "program.json"
        >>> write_artifact(Artifact(task="mine", template=["draft"], predictors={}), path)
        >>> read_artifact(path).task
        'mine'
    """
    path = Path(path)
    with suppress(OSError):  # a name that no file can have
        path = path / "program.json" if path.is_dir() else path
    data = read_json(path)
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise ArtifactError(f"{path} is no {KIND}; compile makes such a file (RUN/program.json)")
    version = data.get("format")
    if type(version) is not int or not 1 <= version <= FORMAT:
        raise ArtifactError(
            f"{path} has format {str(version)[:40]}, this version reads up to {FORMAT}; update r2p-dspy"
        )
    try:
        return Artifact.model_validate(_upgraded(data) if version == 1 else data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{path} is damaged at {where!r}: {first['msg']}; compile it again") from None
    except (LookupError, TypeError, ValueError, AttributeError):
        raise ArtifactError(f"{path} is damaged: its predictors cannot be read; compile it again") from None


def write_artifact(artifact: Artifact, path: str | Path) -> None:
    """Write a compiled program's file, whole or not at all. Raises as `save_program` does."""
    text = json.dumps(artifact.model_dump(), indent=2, ensure_ascii=False) + "\n"
    write_atomic(Path(path), _SURROGATE.sub("\ufffd", text))


def read_json(path: Path, kind: str = "program", maker: str = "compile") -> Any:  # whatever the JSON holds
    """The JSON of a file that may be a stranger's, bounded in size, number of values and depth.

    Raises:
        ArtifactError: it cannot be read; the message says of what kind it is not, and what makes such a file.
    """
    try:
        if not path.is_file():  # a pipe or a device has no end
            problem = "is no file" if path.exists() else "does not exist"
            raise ArtifactError(f"{path} {problem}; {maker} makes such a file")
        content = read_bounded(path, _MAX_BYTES)
        # Counted before they are read: a list of two bytes takes fifty in memory.
        if content.count(b"[") + content.count(b"{") + content.count(b",") > _MAX_VALUES:
            raise ValueError(f"it holds more than {_MAX_VALUES:,} values")
        data = json.loads(content.decode())
        if _depth(data) > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if _SURROGATE.search(json.dumps(data, ensure_ascii=False)):
            raise ValueError("it holds half a character")
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error  # without the path, which stands there already
        raise ArtifactError(f"{path} cannot be read as a {kind} ({reason}); {maker} it again") from None
    return data


def _depth(data: Any) -> int:  # Any: a piece of JSON
    """How deep a piece of JSON is nested, without recursion, which could exceed its limit."""
    level, depth = [data], 0
    while level:
        parents = [value for value in level if isinstance(value, dict | list)]
        level = [value for parent in parents for value in (parent.values() if isinstance(parent, dict) else parent)]
        depth += 1
    return depth


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Convert a file of format 1, which lists descriptions in the order of the fields."""
    inputs, outputs = data["fields"]["inputs"], data["fields"]["outputs"]
    predictors = {}
    for name, state in data["state"].items():
        descriptions = [field["description"] for field in state["signature"]["fields"]]
        if name == "synthesize":  # it has one more input; its outputs are one of its own and the answers
            answers = len(descriptions) - len(inputs) - 2
            names = [*inputs, "candidates"], ["comparison", *outputs[len(outputs) - answers :]]
        else:
            names = inputs, outputs
        described = dict(zip([*names[0], *names[1]], descriptions, strict=True))
        predictors[name] = {
            "instructions": state["signature"]["instructions"],
            "inputs": {field: described[field] for field in names[0]},
            "outputs": {field: described[field] for field in names[1]},
            "demos": state["demos"],
        }
    return data | {"predictors": predictors}
