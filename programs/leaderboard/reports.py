"""What a leaderboard reads of a `report.json`, checked."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from r2p_dspy import __version__
from r2p_dspy.errors import RunError
from r2p_dspy.files import read_bounded

REPORT = "report.json"
Number = Annotated[float, Field(ge=-1e12, le=1e12)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Share = Annotated[float, Field(ge=0, le=1)] | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class Interval(_Part):
    """A metric's value with its 95 % interval."""

    value: Number
    low: Number
    high: Number


class Tokens(_Part):
    """The tokens of a program's calls."""

    prompt: Count
    completion: Count


class Program(_Part):
    """What one program reached and took; see `programs.evaluate.report.entry`."""

    metrics: Annotated[dict[str, Interval], Field(min_length=1)]
    baselines: dict[str, Number]
    compliance: Share
    evidence_validity: Share
    parse_failures: dict[str, Count]
    failed_rows: dict[str, Count]
    calls: Count
    tokens: Tokens
    cost_usd: Number | None


class Judge(_Part):
    """What a judge gave the programs, and the trivial baselines where it rated them."""

    lm: str
    programs: dict[str, Interval]
    baselines: dict[str, Number] = {}


class Report(_Part):
    """One task's report; see `programs.evaluate.report.build_report`. Later additions may be missing."""

    command: str
    task: str
    split: str
    data: str
    model: str
    lm: str
    k: Count
    seed: int | None
    examples: Annotated[int, Field(ge=1, le=10**15)]
    programs: dict[str, Program]
    temperature: Number | None = None
    floors: dict[str, dict[str, Number]] = {}
    judge: Judge | None = None
    date: str | None = None
    users: Count | None = None
    data_digest: str | None = None
    metric_data_missing: list[str] = []


@dataclass(frozen=True)
class ReportFile:
    """A report with the file that it stands in.

    Args:
        run: the run's directory, or the file, as the user named it.
        teacher: the model of the program `teacher`, of a fine-tuning run.
        date: when it was made; for a report that does not say so, when its file was written.
        data: what tells its examples from others: equal texts, equal data.
    """

    report: Report
    run: str
    teacher: str | None
    date: str
    data: str


def read_json(path: Path) -> dict[str, Any]:
    """The contents of a `report.json`; RunError says in one line what is wrong with it."""
    try:
        content = json.loads(read_bounded(path))
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path} is no JSON ({error})") from None
    if not isinstance(content, dict) or "command" not in content:
        raise RunError(f"{path} is no report of a run; give those of evaluate, compile, finetune and sweep")
    return content


def cells(path: Path, content: Mapping[str, Any]) -> list[Path] | None:
    """The report files of a sweep's cells, each in its own directory; None if this is no sweep."""
    if content["command"] != "sweep":
        return None
    sweep = _adapted(path, content, _SWEEP)
    return [path.parent / cell.directory / REPORT for task in sweep.tasks.values() for cell in task.cells]


def reports_of(path: Path, content: Mapping[str, Any]) -> Iterator[ReportFile]:
    """The reports of a file: one, or one for each task of a fine-tuning run.

    Raises:
        RunError: one line about a part that this version does not know.
    """
    finetune = _adapted(path, content, _FINETUNE) if content["command"] == "finetune" else None
    for part in [content] if finetune is None else [*finetune.tasks.values()]:
        report = _adapted(path, part, _REPORT)
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
        run = str(path.parent if path.name == REPORT else path)
        teacher = None if finetune is None else finetune.teacher.model
        yield ReportFile(report, run, teacher, report.date or written, _data(path, report))


class _Cell(_Part):
    directory: str


class _Cells(_Part):
    cells: list[_Cell]


class _Sweep(_Part):
    tasks: dict[str, _Cells]


class _Teacher(_Part):
    model: str


class _Finetune(_Part):
    teacher: _Teacher
    tasks: dict[str, dict[str, Any]]


_REPORT, _SWEEP, _FINETUNE = TypeAdapter(Report), TypeAdapter(_Sweep), TypeAdapter(_Finetune)
_Kind = TypeVar("_Kind")


def _adapted(path: Path, content: Mapping[str, Any], kind: TypeAdapter[_Kind]) -> _Kind:
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        first, version = error.errors()[0], content.get("version")
        flaw = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        state = "damaged" if version == __version__ else "of another version of r2p-dspy"
        raise RunError(f"{path} is {state} ({flaw}); make the run again") from None


def _data(path: Path, report: Report) -> str:
    """A report of an earlier version says nothing of its examples; the config beside it has a digest of their ids."""
    if report.data_digest is not None:
        return report.data_digest
    try:
        ids = read_json(path.with_name("config.json")).get("examples")
    except RunError:
        ids = None
    ids = ids.get(report.task) if isinstance(ids, dict) else ids
    return f"ids {ids} of {report.data}, {report.split}" if isinstance(ids, str) else f"unknown, of {path}"
