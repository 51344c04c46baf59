"""Where a run keeps its completed calls, and for how long."""

import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CallKeeping:
    """How a run keeps its calls.

    Args:
        directory: of the call cache; None keeps no calls.
        by_row: see `CallCache`.
        temporary: the directory is removed when the run is finished. It holds users' texts, and no call of a finished
            run is made again.
    """

    directory: Path | None
    by_row: bool = True
    temporary: bool = False

    @classmethod
    def of(cls, given: str | None, cache: bool, default: Path) -> "CallKeeping":
        """What a command's options say: `--calls` is kept, the default directory is temporary, `--no-cache` is none.

        Examples:
            >>> CallKeeping.of(None, True, Path("run/calls")).temporary, CallKeeping.of("calls", True, Path()).temporary
            (True, False)
        """
        if not cache:
            return cls(None)
        return cls(default, temporary=True) if given is None else cls(Path(given))

    def finish(self) -> None:
        """The run is finished: remove what need not be kept."""
        if self.temporary and self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
