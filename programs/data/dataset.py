"""Which examples a command works on: the persona world's by default, or LaMP's files from a directory."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dspy

from programs.data.lamp.reading import iter_examples
from programs.data.lamp.row_errors import RowError
from programs.data.lamp.rows import golds_file, questions_file
from programs.data.personas import ALL_MAKERS
from programs.data.personas.world import draw, example
from programs.data.splits import check_apart, split
from programs.data.stored import in_memory, stored
from programs.tasks.task import Task
from r2p_dspy.errors import DataError
from r2p_dspy.files import digest

PERSONA_WORLD = "persona world (synthetic)"  # the source of its examples
FEW = 60  # training examples that compiling needs
_DEV = 60


@dataclass(frozen=True)
class Data:
    """The examples of a command.

    Args:
        train: programs are compiled on these.
        dev: candidates are chosen on these.
        test: the report is on these; the other two have none of their questions. Histories that come from files are
            read when they are used.
        source: where the examples come from, for the report.
        split: the name of the reported split.
        shared_users: number of users of `test` who are also in `train` or `dev` (with other questions).
        skipped: ids of the flawed rows that were left out, by LaMP's name of the split; empty if there are none.
    """

    train: list[dspy.Example]
    dev: list[dspy.Example]
    test: list[dspy.Example]
    source: str
    split: str
    shared_users: int = 0
    skipped: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ids(self) -> set[str]:
        """The ids of all examples."""
        return {example.id for part in (self.train, self.dev, self.test) for example in part}

    def without(self, ids: Collection[str]) -> "Data":
        """These data without some of the examples, which `skipped` then names; DataError for unknown ids."""
        if not ids:
            return self
        check_known(ids, self)
        skipped = {name: [*left_out] for name, left_out in self.skipped.items()}
        for name, part in (("train", [*self.train, *self.dev]), (self.split, self.test)):
            if left_out := [example.id for example in part if example.id in ids]:
                skipped[name] = [*skipped.get(name, ()), *left_out]
        train, dev, test = (
            [example for example in part if example.id not in ids] for part in (self.train, self.dev, self.test)
        )
        return replace(self, train=train, dev=dev, test=test, skipped=skipped)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that change with the examples' ids and with their order."""
        ids = [[example["id"] for example in part] for part in (self.train, self.dev, self.test)]
        return digest(json.dumps(ids))


def check_known(ids: Collection[str], *data: Data) -> None:
    """Refuse to leave out an example that none of the data has."""
    if unknown := sorted(set(ids).difference(*(each.ids for each in data))):
        raise DataError(f"--skip names {unknown[0]!r}, but no example has that id")


@dataclass(frozen=True)
class DataConfig:
    """Which examples a command reads.

    Args:
        source: LaMP's directory, or a file or directory of JSONL rows; None for the persona world (synthetic).
        limit: the most examples to report on, at least 1; with files, it also limits train and dev.
        seed: of the split, or of the draw of personas.
        skip: ids of rows to leave out.
        skip_bad: leave flawed rows out, and name them.
        trains: whether the command needs training examples.
        train: the most training examples. If it is above what compiling needs, `limit` applies to `test` alone.
    """

    source: str | None = None
    limit: int | None = None
    seed: int = 0
    skip: tuple[str, ...] = ()
    skip_bad: bool = False
    trains: bool = False
    train: int = FEW

    @property
    def many(self) -> bool:
        """Whether weights are trained; else a program is compiled, which needs few examples."""
        return self.train > FEW

    def options(self) -> dict[str, Any]:
        """These values under the names of their options, as a run's `config.json` keeps them."""
        own = {"data": self.source, "limit": self.limit, "seed": self.seed}
        return {**own, "skip": [*self.skip], "skip_bad": self.skip_bad}


def personas(task: Task, *, seed: int, limit: int | None, train: int = FEW) -> Data:
    """The persona world's examples (synthetic). Train, dev and test never share a user, whatever the seed.

    Args:
        task: whose examples these are; a DataError says that the persona world does not have it.
        seed: of the draw of personas.
        limit: number of reported examples; None for 200.
        train: number of training examples.
    """
    if task.name not in ALL_MAKERS:
        known = ", ".join(ALL_MAKERS)
        raise DataError(
            f"the persona world has no data for task {task.name!r} (it has {known}); give {_data_for(task)}"
        )
    maker = ALL_MAKERS[task.name]
    counts = {"train": train, "dev": _DEV, "test": 200 if limit is None else limit}
    parts = {role: [example(task, case) for case in draw(maker, role, n, seed)] for role, n in counts.items()}
    return Data(parts["train"], parts["dev"], parts["test"], PERSONA_WORLD, "test")


def _data_for(task: Task) -> str:
    return "--data git:REPOSITORY or --data DIR" if task.name == "commits" else "--data DIR"


def lamp(task: Task, directory: Path, config: DataConfig) -> Data:
    """The examples of a benchmark's files. LaMP's train is split by seed into train and dev; LaMP's dev is reported.

    Where the golds of test are there too, as LongLaMP and LaMP-QA publish them, test is reported, and dev is dev.
    """
    skipped: dict[str, list[str]] = {}

    def part(name: str, limit: int | None) -> list[dspy.Example]:
        flawed: list[RowError] = []
        left_out = flawed.append if config.skip_bad else None
        examples = stored(iter_examples(task, directory, name, limit=limit, skip=config.skip, left_out=left_out))
        if flawed:
            skipped[name] = [flaw.id for flaw in flawed]
        return examples

    asked, scored = (
        {name for name in ("train", "dev", "test") if file(task, directory, name).exists()}
        for file in (questions_file, golds_file)
    )
    reported = "test" if "test" in scored else "dev"
    if asked == {"test"} and not scored:
        raise DataError(f"{directory}: its test set has no golds (test_outputs.json); answer it with `predict`")
    test = part(reported, config.limit)
    if not config.trains and "train" not in asked:
        return Data([], [], test, str(directory), reported, skipped=skipped)
    few = None if config.limit is None else max(config.limit, 10)
    if reported == "test" and "dev" in asked:
        train, dev = part("train", config.train if config.many else few or FEW), part("dev", few or _DEV)
        check_apart(train, dev)
        shared = check_apart([*train, *dev], test)
    else:
        examples = part("train", config.train + 2 * _DEV if config.many else few and 2 * few)
        shared = check_apart(examples, test)
        train, dev = split(examples, config.seed, min(0.15, _DEV / len(examples)) if config.many else 0.5)
    train = train[: config.train]
    train = train if config.many else in_memory(train)  # optimizers copy what they use
    return Data(train, in_memory(dev[:_DEV]), test, str(directory), reported, shared, skipped)
