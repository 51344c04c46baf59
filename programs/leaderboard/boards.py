"""Boards: the programs that were measured on the same data in the same metrics, ranked; all others stand apart."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from metrics.lamp import METRICS
from programs.data.dataset import PERSONA_WORLD
from programs.leaderboard.reports import Interval, Program, ReportFile
from programs.report_html.figures import kind_of

_Kind = TypeVar("_Kind")
_JUDGE = "judge"
_STANDS_IN = "coverage"  # needs no judge, and is no result: a judge's points come first


class Metric(NamedTuple):
    """A metric, and what makes it another one under the same name: its judge, or the data that it went without."""

    name: str
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.variant}".rstrip()

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is, 0 where that is not known."""
        if self.name == _JUDGE:
            return 1
        return 0 if self.name not in METRICS else 1 if METRICS[self.name].higher_is_better else -1


@dataclass(frozen=True)
class Measured:
    """What programs must share to be ranked: the task, the examples with their users, and the metrics."""

    task: str
    data: str
    examples: int
    users: int | None
    metrics: tuple[Metric, ...]  # the first one ranks


@dataclass(frozen=True)
class Entry:
    """A program of a run. What is not known or does not apply is None.

    Args:
        values: each metric with its 95 % interval.
        compliance, evidence_validity: shares of final answers.
        calls, completion_tokens, tokens: for each example; `tokens` with those of prompts.
        cost: US$ for 1,000 examples.
        failed, unread: examples whose call failed, or whose answer could not be read.
    """

    program: str
    model: str
    lm: str
    values: Mapping[Metric, Interval]
    compliance: float | None
    evidence_validity: float | None
    calls: float
    completion_tokens: float
    tokens: float
    cost: float | None
    failed: int
    unread: int
    command: str
    k: int
    temperature: float | None
    seed: int | None
    date: str
    run: str

    @property
    def kind(self) -> str:
        """As in `programs.report_html.figures.kind_of`."""
        return kind_of(self.program)


@dataclass(frozen=True)
class Baseline:
    """What needs no model, in the metrics in which it is known."""

    name: str
    values: Mapping[Metric, float]


@dataclass
class Board:
    """The entries that may be compared, the best first, and the trivial baselines of the same data."""

    measured: Measured
    sources: list[str] = field(default_factory=list)  # where the examples came from, as runs say
    splits: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    baselines: list[Baseline] = field(default_factory=list)

    @property
    def metric(self) -> Metric:
        """The metric that ranks."""
        return self.measured.metrics[0]

    @property
    def is_synthetic(self) -> bool:
        """Whether the examples are of the persona world."""
        return PERSONA_WORLD in self.sources

    def order(self, entry: Entry) -> float:
        """A number that is less, the better an entry is."""
        return -(self.metric.sign or 1) * entry.values[self.metric].value

    def ranks(self) -> list[int | None]:
        """The rank of each entry; equal values share one.

        Controls have none, and where it is not known which direction is better, nothing has.
        """
        if not self.metric.sign:
            return [None] * len(self.entries)
        values = [entry.values[self.metric].value for entry in self.entries if entry.kind != "control"]
        first: dict[float, int] = {}
        for place, value in enumerate(values, start=1):
            first.setdefault(value, place)
        return [None if entry.kind == "control" else first[entry.values[self.metric].value] for entry in self.entries]


def boards(reports: Iterable[ReportFile]) -> list[Board]:
    """The boards of some reports, by task, and of each task those with the most entries first."""
    by_measured: dict[Measured, Board] = {}
    for file in reports:
        for entry in _entries(file):
            measured = _measured(file, entry)
            board = by_measured.setdefault(measured, Board(measured))
            board.entries.append(entry)
            _add(board.sources, file.report.data)
            _add(board.splits, file.report.split)
            for baseline in _baselines(file, measured.metrics):
                _add_baseline(board.baselines, baseline)
    for board in by_measured.values():
        board.entries.sort(key=board.order)
    return sorted(by_measured.values(), key=lambda board: (board.measured.task, -len(board.entries)))


def _measured(file: ReportFile, entry: Entry) -> Measured:
    report = file.report
    return Measured(report.task, file.data, report.examples, report.users, tuple(entry.values))


def _entries(file: ReportFile) -> Iterator[Entry]:
    report = file.report
    for name, program in report.programs.items():
        taught = file.teacher is not None and name == "teacher"
        yield Entry(
            program=name,
            model=file.teacher if file.teacher is not None and taught else report.model,
            lm=report.lm,
            values=_values(file, name, program),
            compliance=program.compliance,
            evidence_validity=program.evidence_validity,
            calls=round(program.calls / report.examples, 4),
            completion_tokens=round(program.tokens.completion / report.examples, 4),
            tokens=round((program.tokens.prompt + program.tokens.completion) / report.examples, 4),
            cost=None if program.cost_usd is None else round(1000 * program.cost_usd / report.examples, 4),
            failed=sum(program.failed_rows.values()),
            unread=sum(program.parse_failures.values()),
            command=report.command,
            k=report.k,
            temperature=report.temperature,
            seed=report.seed,
            date=file.date,
            run=file.run,
        )


def _values(file: ReportFile, name: str, program: Program) -> dict[Metric, Interval]:
    judge = file.report.judge
    judged = {} if judge is None or name not in judge.programs else {_judge(file): judge.programs[name]}
    own = {_metric(file, metric): value for metric, value in program.metrics.items()}
    return {**judged, **own} if _STANDS_IN in program.metrics else {**own, **judged}


def _baselines(file: ReportFile, metrics: Sequence[Metric]) -> Iterator[Baseline]:
    """A report of an earlier version has the baselines in the first metric alone."""
    program = next(iter(file.report.programs.values()))
    floors = file.report.floors or {next(iter(program.metrics)): program.baselines}
    by_metric = {_metric(file, name): values for name, values in floors.items()}
    if file.report.judge is not None:
        by_metric[_judge(file)] = file.report.judge.baselines
    for name in dict.fromkeys(name for metric in metrics for name in by_metric.get(metric, ())):
        known = {metric: by_metric[metric][name] for metric in metrics if name in by_metric.get(metric, ())}
        yield Baseline(name, known)


def _metric(file: ReportFile, name: str) -> Metric:
    missing = file.report.metric_data_missing
    return Metric(name, f"without {' and '.join(missing)}" if name == "meteor" and missing else "")


def _judge(file: ReportFile) -> Metric:
    return Metric(_JUDGE, f"by {file.report.judge.lm}" if file.report.judge else "")


def _add_baseline(known: list[Baseline], new: Baseline) -> None:
    """Add a baseline; what runs know of it in different metrics is one."""
    for number, old in enumerate(known):
        shared = old.values.keys() & new.values.keys()
        if old.name == new.name and all(math.isclose(old.values[name], new.values[name]) for name in shared):
            known[number] = Baseline(old.name, {**old.values, **new.values})
            return
    known.append(new)


def _add(known: list[_Kind], new: _Kind) -> None:
    if new not in known:
        known.append(new)
