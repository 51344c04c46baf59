"""The most memory that a process has held."""

import resource
import sys
from contextlib import suppress
from pathlib import Path


def peak_bytes(process: int | None = None) -> int:
    """The most bytes that a process has held, None for this one; 0 for another one that is gone or cannot be read.

    `getrusage`, which is asked where there is no /proc, begins with what the process had that started this one.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{process or 'self'}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    if process is not None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)
