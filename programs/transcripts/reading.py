"""Reading transcripts back, one by one: those of a run together need not fit into memory."""

import json
from pathlib import Path
from typing import Any

from programs.text import truncate


class Transcripts:
    """A program's transcripts by the id of the example; of one that was asked again, the latest.

    Args:
        path: the file; no transcripts where there is none. Half a line of a killed run is left out.
        title_chars: characters of a title.

    Attributes:
        titles: the beginning of each question, by id.
    """

    def __init__(self, path: Path, title_chars: int = 90):
        self._path = path
        self._places: dict[Any, tuple[int, int]] = {}  # of lines: where they begin, and their lengths
        self.titles: dict[Any, str] = {}
        begin = 0
        for line in path.open("rb") if path.exists() else ():
            try:
                transcript = json.loads(line)
                question = transcript.get("question") or {}  # not all versions keep all
                self.titles[transcript["id"]] = truncate(" · ".join(question.values()), title_chars)
                self._places[transcript["id"]] = begin, len(line)
            except (ValueError, LookupError, TypeError, AttributeError):  # half a line, or no transcript
                pass
            begin += len(line)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, example: Any) -> dict[str, Any] | None:
        """An example's transcript; None if there is none."""
        if example not in self._places:
            return None
        begin, length = self._places[example]
        with self._path.open("rb") as file:
            file.seek(begin)
            return json.loads(file.read(length))
