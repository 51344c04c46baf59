"""The file of a compiled program: what stands in it, how it is read and written, and how texts are left out of it."""

import json
import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from r2p_dspy.errors import ArtifactError, ConfigError
from r2p_dspy.files import write_atomic

KIND, FORMAT = "r2p-dspy program", 2
HELD = "Demos hold texts from users' histories."
LEFT_OUT = "Demos and quotes were left out: this is not quite the program that the scores were measured on."
_MOST_BYTES, _MOST_DEPTH = 50_000_000, 100  # more is no compiled program
_HALVES = re.compile(r"[\ud800-\udfff]")  # of characters, which models do write, and no prompt takes
_QUOTE = 6  # words in a row that also stand in a user's text are a quote


class Predictor(BaseModel):
    """What a file holds of a predictor: its instructions, what each field is described as, and its demos.

    Args:
        instructions: what it is told.
        inputs: the descriptions of its inputs, by name.
        outputs: the descriptions of its outputs, by name.
        demos: their fields by name; a profile is a list of its items.
        left_out: how many demos were left out to redact the file.
    """

    instructions: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    demos: list[dict[str, Any]] = Field(default_factory=list)
    left_out: int = 0


class Artifact(BaseModel):
    """A compiled program as data.

    Args:
        warning: what whoever has the file must know.
        task: the name of the task that it is for.
        made: the day on which it was made, `YYYY-MM-DD`, in UTC.
        versions: of the libraries that made it.
        notes: where it comes from: data, model, optimizer, metric, scores.
        settings: how the program around the predictors was built.
        redacted: whether users' texts were left out.
        template: the names of the stages.
        predictors: by their names in the program.
    """

    kind: str = KIND
    format: int = FORMAT
    warning: str = HELD
    task: str | None
    made: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    notes: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    redacted: bool = False
    template: list[str]
    predictors: dict[str, Predictor]


def read_artifact(path: str | Path) -> Artifact:
    """Read a compiled program's file; nothing in it is run.

    Args:
        path: of the file, or of a run's directory that holds it as `program.json`.

    Raises:
        ArtifactError: for a missing or damaged file, another kind of file, or a newer format.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "program.json"
        >>> write_artifact(Artifact(task="mine", template=["draft"], predictors={}), path)
        >>> read_artifact(path).task
        'mine'
    """
    path = Path(path)
    path = path / "program.json" if path.is_dir() else path
    data = _json(path)
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise ArtifactError(f"{path} is no {KIND}; compile makes such a file (RUN/program.json)")
    given = data.get("format")
    if type(given) is not int or not 1 <= given <= FORMAT:
        raise ArtifactError(f"{path} has format {str(given)[:40]}, this version reads up to {FORMAT}; update r2p-dspy")
    try:
        return Artifact.model_validate(_upgraded(data) if given == 1 else data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{path} is damaged at {where!r}: {first['msg']}; compile it again") from None
    except (LookupError, TypeError, ValueError, AttributeError):
        raise ArtifactError(f"{path} is damaged: its predictors cannot be read; compile it again") from None


def write_artifact(artifact: Artifact, path: str | Path) -> None:
    """Write a compiled program's file, whole or not at all.

    Raises:
        OSError: when it cannot be written.
        TypeError: when its notes or settings are no JSON.
    """
    text = json.dumps(artifact.model_dump(), indent=2, ensure_ascii=False) + "\n"
    write_atomic(Path(path), _HALVES.sub("\ufffd", text))


def redacted(artifact: Artifact, texts: Iterable[str] = ()) -> Artifact:
    """The artifact without users' texts: no demos, and no words in a row that stand in a text of theirs.

    What is left are the instructions, in which an optimizer may have quoted a user: each run of six words or more that
    also stands in a demo or in `texts` becomes `[…]`. It loads as any other, as a program without demos.

    Args:
        artifact: a compiled program; it is not changed.
        texts: what users wrote, beside what the demos hold.

    Example:
        >>> demo = {"film": "the keeper of a lighthouse finds a wreck", "tag": "sad"}
        >>> told = 'Films such as "the keeper of a lighthouse finds a wreck" are sad.'
        >>> held = Predictor(instructions=told, inputs={"film": ""}, outputs={"tag": ""}, demos=[demo])
        >>> made = redacted(Artifact(task=None, template=[], predictors={"reason": held}))
        >>> made.predictors["reason"].instructions, made.predictors["reason"].left_out
        ('Films such as "[…]" are sad.', 1)
    """
    kept = artifact.model_dump()
    said = {"notes": kept["notes"], "predictors": kept["predictors"]}
    demos = [predictor.pop("demos") for predictor in said["predictors"].values()]
    runs = {run for text in _texts(said) for run in _runs(text)}
    quoted = {run for text in chain(_texts(demos), texts) for run in _runs(text) if run in runs}
    for predictor, left_out in zip(said["predictors"].values(), demos, strict=True):
        predictor["left_out"] += len(left_out)
    return Artifact.model_validate(kept | _without(said, quoted) | {"redacted": True, "warning": LEFT_OUT})


_WORD = re.compile(r"\w+")


def _runs(text: str) -> Iterable[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    return zip(*(words[start:] for start in range(_QUOTE)), strict=False)


def _texts(value: Any) -> Iterable[str]:
    """Every text in a piece of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _without(value: Any, quoted: set[tuple[str, ...]]) -> Any:
    """The same with what is quoted left out of every text."""
    if isinstance(value, dict):
        return {key: _without(one, quoted) for key, one in value.items()}
    if isinstance(value, list):
        return [_without(one, quoted) for one in value]
    if not isinstance(value, str):
        return value
    words = [*_WORD.finditer(value)]
    folded = [word[0].casefold() for word in words]
    starts = [at for at in range(len(words)) if tuple(folded[at : at + _QUOTE]) in quoted]
    inside = {start + step for start in starts for step in range(_QUOTE)}
    for at in sorted(inside, reverse=True):  # from the end, so that the places before it stay where they are
        end = words[at + 1].start() if at + 1 in inside else words[at].end()
        value = value[: words[at].start()] + ("" if at - 1 in inside else "[…]") + value[end:]
    return value


def _json(path: Path) -> Any:
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; compile makes such a file (RUN/program.json)")
    try:
        if not path.is_file():
            raise ConfigError("it is no file")
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"it is larger than {_MOST_BYTES // 1_000_000} MB")
        data = json.loads(path.read_text(encoding="utf-8"))
        if _depth(data) > _MOST_DEPTH:
            raise ConfigError("it is nested too deeply")
        if _HALVES.search(json.dumps(data, ensure_ascii=False)):
            raise ConfigError("it holds half a character")
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read as a program: {error}") from None
    return data


def _depth(data: Any) -> int:
    """How deep a piece of JSON is nested, level by level, as recursion would end in an error of its own."""
    level, depth = [data], 0
    while level:
        held = [one for one in level if isinstance(one, dict | list)]
        level = [value for one in held for value in (one.values() if isinstance(one, dict) else one)]
        depth += 1
    return depth


def _upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """A file of format 1, where descriptions stood in the order of the fields, in today's format.

    Raises:
        LookupError, TypeError, ValueError: when it is damaged.
    """
    inputs, outputs = data["fields"]["inputs"], data["fields"]["outputs"]
    predictors = {}
    for name, state in data["state"].items():
        said = [field["description"] for field in state["signature"]["fields"]]
        if name == "synthesize":  # it has an input more, and of the outputs one of its own and the answers
            answers = len(said) - len(inputs) - 2
            names = [*inputs, "candidates"], ["comparison", *outputs[len(outputs) - answers :]]
        else:
            names = inputs, outputs
        described = dict(zip([*names[0], *names[1]], said, strict=True))
        predictors[name] = {
            "instructions": state["signature"]["instructions"],
            "inputs": {one: described[one] for one in names[0]},
            "outputs": {one: described[one] for one in names[1]},
            "demos": state["demos"],
        }
    return data | {"predictors": predictors}
