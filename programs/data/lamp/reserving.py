"""Directories of downloaded data, each for one task and split."""

import json
from pathlib import Path

from programs.runs.directory import write_json
from programs.text import one_line
from r2p_dspy.errors import DataError


def reserve(output: Path, source: dict[str, str]) -> None:
    """Keep files of another task or split out of the same directory."""
    path = output / "source.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        if path.exists() and any(output.glob("*_*.json*")):
            before = json.loads(path.read_text(encoding="utf-8"))
            if any(before.get(key) != source[key] for key in ("task", "split")):
                content = ", ".join(f"{key} {value}" for key, value in before.items())
                raise DataError(one_line(f"{output} is for other files ({content}); give another --output"))
        write_json(path, source)
    except OSError as error:
        raise DataError(f"cannot write to {output}: {error.strerror}; give another --output") from None
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError):
        raise DataError(f"{path} does not describe the files beside it; remove it, or give another --output") from None
