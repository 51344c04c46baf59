"""Finding the reports that a user names, and saying which cannot be used."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from programs.leaderboard.reports import REPORT, ReportFile, cells, read_json, reports_of
from r2p_dspy.errors import ConfigError, RunError


def collect(names: Sequence[str]) -> tuple[list[ReportFile], list[str]]:
    """The reports of some runs, each once, and a line for each one that cannot be used.

    Args:
        names: directories of runs, files, or patterns such as "runs/*". A sweep stands for its cells.
    """
    reports: dict[Path, list[ReportFile]] = {}
    problems: list[str] = []
    waiting = [path for name in names for path in _matching(name)]
    for path in waiting:  # cells of sweeps come behind
        try:
            file = _file(path)
            if file.resolve() not in reports:
                content = read_json(file)
                of_sweep = cells(file, content)
                reports[file.resolve()] = [] if of_sweep is not None else [*reports_of(file, content)]
                waiting += of_sweep or ()
        except RunError as error:
            problems.append(str(error))
        except OSError as error:  # a name that the system refuses
            problems.append(f"{path} cannot be read ({error.strerror})")
    return [report for own in reports.values() for report in own], problems


def _matching(name: str) -> Iterator[Path]:
    path = Path(name)
    matches = list[Path]()
    if not path.exists() and any(sign in name for sign in "*?["):
        try:
            matches = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        except ValueError as error:  # such as "runs/**x"
            raise ConfigError(f"{name} is no pattern ({error}); give the runs by name") from None
    yield from matches or [path]


def _file(path: Path) -> Path:
    if not path.is_dir():
        if not path.exists():
            raise RunError(f"{path} is not there")
        return path
    if (path / REPORT).is_file():
        return path / REPORT
    if (path / "config.json").is_file():
        raise RunError(f"{path} holds no {REPORT}: the run is not finished; go on with its command and --resume")
    raise RunError(f"{path} holds no {REPORT}; give a run, or '{path}/*' for the runs in it")
