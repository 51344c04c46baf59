"""Rows that `--skip` leaves out since a run was started: a run that is resumed may leave out further ones."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from programs.runs.configs import MeasuringConfig
from programs.runs.directory import SKIPPED_LATER, read_json

ConfigT = TypeVar("ConfigT", bound=MeasuringConfig)


def with_earlier_skips(config: ConfigT, output: Path) -> tuple[ConfigT, list[str]]:
    """The config with the `--skip` that the run at `output` was started with, and the ids that were added since."""
    file = output / "config.json"
    earlier = read_json(file) if file.exists() else {}
    first = tuple(earlier.get("skip", ()))
    later = dict.fromkeys([*earlier.get(SKIPPED_LATER, ()), *config.data.skip])
    return replace(config, data=replace(config.data, skip=first)), [row for row in later if row not in first]
